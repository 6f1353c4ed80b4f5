"""The console's pages of the mirror: tables, rows, one row, and the search."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urljoin

import pytest
from commanding import SECRET, product
from senders import SOURCES
from serving import Served, wait_until
from sqlalchemy import text
from visiting import Visitor, text_of, visiting

from handlers.catalog import Product
from receiver.api.search import show_hits
from receiver.console.pages.row import path_of_row
from receiver.console.pages.search import _only_hit
from receiver.errors import Unavailable
from receiver.http_urls import quoted_part
from receiver.runs.actions import Asked, By, Effect, Via, record
from receiver.runs.asking import ASK, LONGEST_ANSWERED_VALUE
from receiver.search.hits import search
from receiver.sessions.roles import Role


class Shop:
    """A server with data, and a person at its console."""

    def __init__(self, served: Served, visitor: Visitor) -> None:
        self.served, self.visitor = served, visitor

    def tell(self, name: str, at: str, *, number: int = 1, **changed: Any) -> str:
        content = json.loads(product(number, key=f"SKU-{number}", name=name, at=f"2026-03-04T{at}:00Z")) | changed
        delivery = self.served.send("iimmpact", json.dumps(content).encode(), secret=SECRET)
        wait_until(lambda: self.served.count("deliveries", "ended_at IS NULL") == 0, "the worker")
        return delivery

    def text(self, path: str, **query: str) -> str:
        return text_of(self.visitor.page(path, **query))


@pytest.fixture(scope="module")
def shop(lend_database, tmp_path_factory) -> Iterator[Shop]:
    with (
        lend_database(tmp_path_factory.mktemp("rows")) as url,
        visiting(url, sources={"iimmpact": {"secrets": [SECRET]}, "indexed": SOURCES["indexed"]}, with_worker=True) as (
            served,
            visitor,
        ),
    ):
        opened = Shop(served, visitor)
        opened.tell("Lamp", "10:00")
        opened.tell("Chair", "10:00", number=2)
        opened.tell("Twin", "10:00", number=3, id="SKU-1")
        yield opened


def test_the_tables_of_the_mirror_are_listed_with_links(shop: Shop):
    assert 'href="/console/mirror/products"' in shop.visitor.page("/mirror")


def test_rows_are_listed_with_their_sku_and_name(shop: Shop):
    page = shop.visitor.page("/mirror/products")
    assert 'href="/console/mirror/products/iimmpact/P1"' in page
    assert "SKU-2 Chair – active" in text_of(page)
    assert "hookmirror rows products" in text_of(page)


def test_rows_are_filtered_and_an_empty_list_links_to_all(shop: Shop):
    assert "Chair" not in shop.text("/mirror/products", sku="SKU-1")
    page = shop.visitor.page("/mirror/products", active="false")
    assert "No row matches." in text_of(page)
    assert '<a href="/console/mirror/products">Show all</a>' in page


def test_an_empty_table_says_what_fills_it(shop: Shop):
    assert "No row yet" in shop.text("/mirror/records")


def test_rows_are_downloaded_as_csv(shop: Shop):
    lines = shop.visitor.get("/mirror/products.csv").text.splitlines()
    assert lines[0].startswith("\ufeffsource,external_id,active")
    assert len(lines) == 4


def test_each_column_shows_its_value_what_brought_it_and_what_lost(shop: Shop):
    newest, late = shop.tell("Bright lamp", "12:00"), shop.tell("Old lamp", "11:00")
    page = shop.visitor.page("/mirror/products/iimmpact/P1")
    (name,) = [row for row in page.split("<tr>") if ">name</bdi></th>" in row]
    assert "Bright lamp" in text_of(name)
    assert f'href="/console/deliveries/{newest}"' in name
    assert "Old lamp of 2026-03-04 11:00:00 UTC , stale, by" in text_of(name)
    assert f'href="/console/deliveries/{late}"' in name
    assert "their result equals the row" in text_of(page)


def test_the_timeline_shows_which_deliveries_changed_something(shop: Shop):
    shop.tell("White chair", "12:00", number=2)
    ignored = shop.tell("Chair", "13:00", number=2, type="product.painted")
    said = shop.text("/mirror/products/iimmpact/P2").partition("Timeline")[2]
    assert "ignored by delivery" in said
    assert ignored[-4:] in said
    assert "No handler takes product.painted" in said
    assert "Chair → White chair" in said


def test_the_timeline_shows_a_boolean_in_place_of_a_number(shop: Shop):
    for at, stock in (("10:00", 1), ("11:00", True)):
        shop.tell("Desk", at, number=4, data={"display_name": "Desk", "stock": stock})
    assert "data.stock : 1 → yes" in shop.text("/mirror/products/iimmpact/P4").partition("Timeline")[2]


def test_the_timeline_shows_a_null_that_came_too_late_and_the_members_of_a_late_document_once(shop: Shop):
    shop.tell("Bench", "12:00", number=61, data={"display_name": "Bench", "product_code": "SKU-61", "stock": 2})
    shop.tell("Bench", "11:00", number=61, data={"display_name": "Bench", "product_code": None, "stock": 1})
    said = shop.text("/mirror/products/iimmpact/P61").rpartition("Timeline")[2]
    assert "stale" in said
    assert "sku : –" in said
    assert "data.stock : 1" in said
    assert "data : {" not in said.partition("insert")[0]


def test_a_search_with_one_result_leads_to_it(shop: Shop):
    answer = shop.visitor.get("/search", q="SKU-2")
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/mirror/products/iimmpact/P2")


def test_a_search_whose_other_results_do_not_fit_on_a_page_leads_to_none(shop: Shop):
    tables = {"products": Product}
    found = show_hits(search(shop.served.beside, tables, "SKU-1", most_bytes=1), tables)
    assert (len(found.rows), found.rows_found) == (1, 2)
    assert _only_hit(found) is None


def test_several_results_are_listed_with_their_kind(shop: Shop):
    said = shop.text("/search", q="SKU-1")
    assert "products / iimmpact / P1 SKU" in said
    assert "products / iimmpact / SKU-1 external id" in said


def test_a_search_without_a_result_says_where_it_looked(shop: Shop):
    said = shop.text("/search", q="p1")
    assert "as external id" in said
    assert "as dedup key, in dedup_keys: 0" in said
    assert "hookmirror search p1" in said


def test_the_search_says_what_it_can_find(shop: Shop):
    assert "Type it exactly." in shop.text("/search")


def test_the_page_of_an_unknown_row_offers_to_ask_its_source(shop: Shop):
    page = shop.visitor.page("/mirror/products/iimmpact/nosuch")
    assert "The mirror has never had this row. Ask the source?" in text_of(page)
    assert 'action="/console/mirror/products/iimmpact/nosuch/ask"' in page


def test_an_unknown_table_is_answered_with_a_page_that_says_so(shop: Shop):
    answer = shop.visitor.get("/mirror/moons/iimmpact/P1")
    assert (answer.status_code, "The mirror has no table" in answer.text) == (404, True)


@pytest.mark.parametrize(
    "external_id", ["a/b", "a/ask", ".", "..", "~..", "~", "...", "ä ?#&%", "line\nend", "{source}", "<b>"]
)
def test_any_external_id_has_a_page_that_links_to_itself(shop: Shop, external_id: str):
    path = path_of_row("products", "iimmpact", external_id)
    page = shop.visitor.page(path)
    assert f'action="/console{path}/ask"' in page
    assert f"GET /api/v1/catalog/products/iimmpact/{quoted_part(external_id)}" in page


@pytest.mark.parametrize("external_id", [".", "..", "~.."])
def test_a_row_named_like_a_step_in_an_address_is_opened_by_its_link(shop: Shop, external_id: str):
    shop.tell(f"Named {external_id}", "10:00", number=7, id=external_id)
    (link,) = re.findall(
        f'href="([^"]+)"><bdi hx-ignore>{re.escape(external_id)}<', shop.visitor.page("/mirror/products")
    )
    # A browser resolves the link.
    page = shop.visitor.client.get(urljoin(shop.visitor.base, link))
    assert f"Named {external_id}" in page.text


@pytest.mark.parametrize("asked", ["1", "999999", "0"])
def test_an_answer_recorded_for_another_row_is_not_shown(shop: Shop, asked: str):
    assert "What the source says" not in shop.text("/mirror/products/iimmpact/P1", asked=asked)


@pytest.mark.parametrize("asked", ["x", "-1", "9" * 40])
def test_a_number_that_is_not_an_action_is_refused(shop: Shop, asked: str):
    assert shop.visitor.get("/mirror/products/iimmpact/P1", asked=asked).status_code == 400


def test_a_source_that_cannot_be_asked_is_shown_with_what_to_set(shop: Shop):
    answer = shop.visitor.press("/mirror/products/iimmpact/P1/ask")
    assert answer.status_code == 409
    assert "api_url" in text_of(answer.text)


def test_a_viewer_sees_the_row_without_buttons(shop: Shop):
    viewer = Visitor(str(shop.served.client.base_url).rstrip("/"))
    viewer.sign_in(Role.VIEWER, "viewer-1")
    assert "Ask the source" not in viewer.page("/mirror/products/iimmpact/P1")
    assert (
        viewer.client.post("/mirror/products/iimmpact/P1/ask", headers={"Sec-Fetch-Site": "same-origin"}).status_code
        == 400
    )
    viewer.close()


# ── what the source said ──────────────────────────────────────────────────────────────────────────────────────


def record_answer(
    shop: Shop, external_id: str, *, here: Any, there: Any, column: str = "name", table: str = "products", **more: Any
) -> str:
    """Record that the source was asked for a row, of which one column differs; return the action's id."""
    question = {"table": table, "source": "iimmpact", "external_id": external_id}
    texts = {side: json.dumps(value, separators=(",", ":")) for side, value in (("here", here), ("there", there))}
    differing = {"column": column} | {side: text[:LONGEST_ANSWERED_VALUE] for side, text in texts.items()}
    asked = Asked(by=By("ops-1", Via.CONSOLE), what=ASK, arguments=question)
    effect = Effect(1, {"differ": [differing]} | more, thing="row")
    with shop.served.beside.write() as connection:
        return str(record(connection, asked, effect, now=datetime.now(UTC)))


def test_an_answer_says_which_time_made_the_source_s_value_lose(shop: Shop):
    shop.tell("New shelf", "12:00", number=5)
    shop.tell("Old shelf", "11:00", number=5)
    asked = record_answer(shop, "P5", here="New shelf", there="Old shelf")
    assert (
        "A delivery brought the source's name, as of 2026-03-04 11:00:00 UTC, and lost because it is older than "
        "2026-03-04 12:00:00 UTC, the time of the present value."
    ) in shop.text("/mirror/products/iimmpact/P5", asked=asked)


@pytest.mark.parametrize(
    "odd",
    [
        {"differ": 5},
        {"differ": [5]},
        {"milliseconds": "soon"},
        {"changed_there": "yesterday"},
        {"changed_there": "0001-01-01T00:00:00+14:00"},
        {"known_there": []},
    ],
)
def test_an_answer_that_was_edited_by_hand_is_left_out(shop: Shop, odd: dict[str, Any]):
    asked = record_answer(shop, "P1", **{"here": "Bulb", "there": "Lamp"} | odd)
    page = shop.text("/mirror/products/iimmpact/P1", asked=asked)
    assert "Timeline" in page
    assert "What the source says" not in page


#: A text of which an action keeps only the beginning.
LONG = "a long description, " * 30


@pytest.mark.parametrize(
    ("number", "old", "new"),
    [(21, {"display_name": "Rug", "text": "old"}, {"display_name": "Rug"}), (22, {"text": LONG}, {"text": "short"})],
)
def test_a_document_of_the_source_that_lost_is_found(shop: Shop, number: int, old: Any, new: Any):
    shop.tell("", "12:00", number=number, data=new)
    late = shop.tell("", "11:00", number=number, data=old)
    asked = record_answer(shop, f"P{number}", column="data", here=new, there=old)
    page = shop.visitor.page(f"/mirror/products/iimmpact/P{number}", asked=asked)
    assert "A delivery brought the source's data, as of 2026-03-04 11:00:00 UTC, and lost because" in text_of(page)
    assert late in page.partition("What the source says")[2].partition("</section>")[0]


def test_a_delete_that_came_too_late_is_found(shop: Shop):
    shop.tell("Sofa", "12:00", number=23)
    shop.tell("Sofa", "11:00", number=23, type="product.deleted", data=None)
    asked = record_answer(shop, "P23", column="active", here=True, there=False, known_there=False)
    page = shop.text("/mirror/products/iimmpact/P23", asked=asked)
    assert "A delivery brought the source's active, as of 2026-03-04 11:00:00 UTC, and lost because" in page


def test_an_empty_value_that_lost_is_found(shop: Shop):
    shop.tell("Bed", "12:00", number=24)
    shop.tell("Bed", "11:00", number=24, data={"display_name": None})
    asked = record_answer(shop, "P24", here="Bed", there=None)
    page = shop.text("/mirror/products/iimmpact/P24", asked=asked)
    assert "A delivery brought the source's name, as of 2026-03-04 11:00:00 UTC, and lost because" in page


def test_a_row_that_is_unknown_because_its_delivery_is_dead_or_ignored_is_explained_by_it(shop: Shop):
    ignored = shop.tell("Clock", "10:00", number=25, type="product.painted")
    asked = record_answer(shop, "P25", here=None, there="Clock", known_here=False)
    said = shop.visitor.page("/mirror/products/iimmpact/P25", asked=asked)
    said = said.partition("What the source says")[2].partition("</section>")[0]
    assert "A delivery about the product with this id is ignored: No handler takes product.painted" in text_of(said)
    assert f'href="/console/deliveries/{ignored}"' in said
    assert "no webhook about it was accepted" not in said


def test_a_row_that_is_unknown_although_deliveries_about_it_were_processed_is_explained_by_them(shop: Shop):
    shop.tell("Vase", "10:00", number=26)
    asked = record_answer(shop, "P26", here=None, there="Vase", known_here=False, table="variants")
    page = shop.text("/mirror/variants/iimmpact/P26", asked=asked)
    assert "The newest delivery about the product with this id was processed, and brought no news of this row." in page
    assert "If that is another entity with the same id, no webhook about this row was accepted." in page


def test_a_row_without_any_delivery_was_never_accepted(shop: Shop):
    asked = record_answer(shop, "P27", here=None, there="Ghost", known_here=False)
    page = shop.text("/mirror/products/iimmpact/P27", asked=asked)
    assert "no webhook about it was accepted. Refused requests of iimmpact" in page


def test_without_the_provenance_of_a_row_its_difference_is_not_explained(shop: Shop, monkeypatch):
    shop.tell("Rack", "10:00", number=28)
    asked = record_answer(shop, "P28", here="Rack", there="Shelf")

    def busy(*_: object) -> None:
        raise Unavailable("Another request is running handlers.")

    monkeypatch.setattr("receiver.provenance.why.find_candidates", busy)
    page = shop.text("/mirror/products/iimmpact/P28", asked=asked)
    assert "Why they differ is not known, because the deliveries about the row could not be run again" in page
    assert "No delivery has the source's values" not in page


def test_deliveries_that_cannot_be_run_again_are_not_said_to_lack_the_source_s_values(shop: Shop):
    gone = shop.tell("Pan", "10:00", number=29)
    shop.tell("Pot", "12:00", number=29)
    with shop.served.beside.write() as connection:
        connection.execute(text("DELETE FROM bodies WHERE delivery_id = :id"), {"id": int(gone)})
    asked = record_answer(shop, "P29", here="Pot", there="Pan")
    page = shop.text("/mirror/products/iimmpact/P29", asked=asked)
    assert "No delivery that could be run again has the source's values, and 1 delivery could not be run" in page


def test_an_answer_is_not_explained_by_what_came_after_it(shop: Shop):
    shop.tell("Stool", "10:00", number=6)
    asked = record_answer(shop, "P6", here="Stool", there="Bench")
    never_sent = "No delivery has the source's values"
    assert never_sent in shop.text("/mirror/products/iimmpact/P6", asked=asked)
    shop.tell("Bench", "13:00", number=6)
    page = shop.text("/mirror/products/iimmpact/P6", asked=asked)
    assert "The row has changed here since the source was asked" in page
    assert never_sent not in page
    assert "Repair this row" not in page


def test_the_form_of_a_repair_names_the_row_and_a_command_with_a_reason(shop: Shop):
    page = shop.text("/mirror/products/iimmpact/P2/repair")
    assert "products / iimmpact / P2" in page
    assert "hookmirror ask products iimmpact P2 --repair --reason '…'" in page


def test_a_row_whose_source_has_no_api_does_not_offer_to_ask_it(shop: Shop):
    shop.served.send("indexed", id="A1")
    wait_until(lambda: shop.served.count("deliveries", "ended_at IS NULL") == 0, "the worker")
    page = shop.text("/mirror/products/indexed/A1")
    assert "Its source has no API to ask." in page
    assert "Ask the source" not in page


@pytest.mark.parametrize(
    ("number", "written", "shown"),
    [
        (11, "1e400", f"1{'0' * 400}"),
        (12, "0.1000000000000000055511", "0.1000000000000000055511"),
        (13, "1e999999999", "1E+999999999"),
    ],
)
def test_a_row_shows_any_number_of_its_sender_without_loss(shop: Shop, number: int, written: str, shown: str):
    body = product(number, key=f"SKU-{number}", name="Anvil").replace(
        b'"display_name"', b'"weight": %b, "display_name"'
    )
    shop.served.ended(shop.served.send("iimmpact", body % written.encode(), secret=SECRET))
    page = shop.visitor.page(f"/mirror/products/iimmpact/P{number}")
    assert shown in page
    assert len(page) < 100_000
