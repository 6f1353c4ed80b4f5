"""The search, the forms of lists, and the cursors of the feed, over HTTP."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from html.parser import HTMLParser
from urllib.parse import quote

import httpx
import pytest
from serving import TIMEOUT, Served, error, serving, token, wait_until
from sqlalchemy import event, text

from receiver.api.tokens import Scope
from receiver.search.deliveries import BY_STATE
from receiver.search.pages import Count, Horizon
from receiver.search.windows import SECONDS

LAMP = {"display_name": "Lamp", "product_code": "L-1"}


@pytest.fixture(scope="module")
def served(lend_database, tmp_path_factory):
    """Serve three products, a delivery without a handler, and an unreadable one."""
    with lend_database(tmp_path_factory.mktemp("searching")) as url, serving(url, with_worker=True) as running:
        for number in range(3):
            running.send("iimmpact", id=f"A{number}", data=LAMP | {"product_code": f"A{number}"})
        running.send("sigma", id="A1", key="moon", event_type="moon.eclipsed")
        running.send("sigma", b"not JSON")
        wait_until(lambda: running.count("deliveries", "ended_at IS NULL") == 0, "the worker")
        yield running


def fine(answer: httpx.Response) -> dict:
    assert answer.status_code == 200, answer.text
    return answer.json()


def search(served: Served, sought: str) -> dict:
    return fine(served.get(f"/api/v1/search?q={quote(sought)}"))


# ── search ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("sought", ["A1", "  A1\t", "product:A1"])
def test_an_external_id_is_found_with_its_row_and_its_deliveries(served, sought):
    found = search(served, sought)
    assert ("products", "iimmpact", "A1") in {
        (each["table"], each["row"]["source"], each["row"]["external_id"]) for each in found["rows"]
    }
    assert "product:A1" in [each["delivery"]["entity"] for each in found["deliveries"]]
    assert found["says"].startswith("In the mirror: products/iimmpact/A1; 1 delivery names it")


def test_a_sku_is_found_before_an_external_id(served):
    with served.beside.write() as connection:
        connection.execute(text("UPDATE products SET sku = 'SKU 4711 ü' WHERE external_id = 'A2'"))
    found = search(served, "SKU 4711 ü")
    assert [(each["kind"], each["row"]["external_id"]) for each in found["rows"]] == [("SKU", "A2")]


def test_a_delivery_is_found_by_its_id_and_by_its_dedup_key(served):
    delivery = fine(served.get("/api/v1/deliveries?state=dead"))["items"][0]
    for sought, kind in ((delivery["id"], "delivery id"), (delivery["dedup_key"], "dedup key")):
        found = search(served, sought)
        assert [(each["kind"], each["delivery"]["id"]) for each in found["deliveries"]] == [(kind, delivery["id"])]
        assert found["says"] == f"Not in the mirror, but the {kind} of 1 delivery."


def test_an_id_that_only_deliveries_name_is_reported_as_missing_in_the_mirror(served):
    with served.beside.write() as connection:
        connection.execute(text("DELETE FROM products WHERE external_id = 'A0'"))
    assert search(served, "product:A0")["says"] == "Not in the mirror; 1 delivery names it."


def test_an_unknown_id_is_answered_with_the_places_searched(served):
    found = search(served, "a1")
    assert found["says"].startswith("'a1' was not found, neither as SKU, nor as external id")
    looked = {each["kind"]: each["where"] for each in found["looked"]}
    assert looked.keys() == {"SKU", "external id", "delivery id", "dedup key", "entity of deliveries"}
    assert {"products", "variants"} <= set(looked["SKU"])
    assert looked["dedup key"] == ["dedup_keys"]


HOSTILE = [
    "%",
    "_",
    "A_",
    "' OR '1'='1",
    "A1'; DROP TABLE products; --",
    "(a+)+$",
    ".*",
    "\\",
    "\0",
    "\u202e",
    "字" * 300,
]


@pytest.mark.parametrize("sought", [*HOSTILE, "9" * 19, "9" * 300, "-1", ":", "product:", ":A1"])
def test_any_searched_text_is_taken_literally(served, sought):
    found = search(served, sought)
    assert (found["rows"], found["deliveries"]) == ([], [])
    assert found["says"].isprintable()
    assert served.count("products") > 0


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("name", ["event_type", "entity", "reason"])
def test_any_filter_text_is_taken_literally(served, name, hostile):
    assert fine(served.get(f"/api/v1/deliveries?{name}={quote(hostile)}"))["items"] == []


@pytest.mark.parametrize("name", ["event_type", "entity", "reason", "source", "cursor", "from", "state"])
def test_a_filter_of_ten_kilobytes_is_refused_with_the_reason(served, name):
    for length in (3_000, 10_000):
        answer = served.get(f"/api/v1/deliveries?{name}={'a' * length}")
        assert error(answer) in ((400, "bad_request"), (414, "url_too_long"))
        assert len(answer.json()["message"]) < 300


# ── lists ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_matches_are_counted_on_request(served):
    page = fine(served.get("/api/v1/deliveries?limit=1&count=true&states=true"))
    assert sum(each["number"] for each in page["states"].values()) == page["matching"]["number"]
    assert page["matching"] == {"number": 5, "more": False, "says": "5"}
    assert fine(served.get("/api/v1/catalog/products?count=true&active=true"))["matching"]["more"] is False


@pytest.mark.parametrize(("left", "taken"), [(SECONDS, BY_STATE), (0.001, 0.001), (0.0, 0.0)])
def test_the_numbers_of_the_states_get_a_part_of_the_list_s_remaining_time(served, monkeypatch, left, taken):
    given: list[float] = []

    def count(*_, seconds: float) -> dict:
        given.append(seconds)
        return {}

    monkeypatch.setattr("receiver.search.deliveries.count_by_state", count)
    monkeypatch.setattr("receiver.api.deliveries.seconds_left", lambda _: left)
    fine(served.get("/api/v1/deliveries?states=true&limit=1"))
    assert given == [taken]


def test_a_first_page_with_every_match_gives_the_numbers_without_a_count(served, monkeypatch):
    def count(*_, **__) -> None:
        raise AssertionError("it was counted")

    for name in ("deliveries.count_by_state", "deliveries.count_deliveries", "rows.count_rows"):
        monkeypatch.setattr(f"receiver.search.{name}", count)
    page = fine(served.get("/api/v1/deliveries?source=iimmpact&count=true&states=true"))
    shown = len(page["items"])
    assert page["matching"] == {"number": shown, "more": False, "says": str(shown)}
    assert {state: each["number"] for state, each in page["states"].items() if each["number"]} == {"processed": shown}
    rows = fine(served.get("/api/v1/catalog/products?count=true&active=true"))
    assert rows["matching"]["number"] == len(rows["items"]) > 0


def test_the_numbers_of_the_states_are_lower_bounds_after_a_search_that_ran_out_of_time(served, monkeypatch):
    monkeypatch.setattr("receiver.search.windows.FIRST_WINDOW", 2)
    monkeypatch.setattr("receiver.search.windows._Looking.from_behind", _one_window)
    page = fine(served.get("/api/v1/deliveries?event_type=sun.set&count=true&states=true"))
    assert {each["says"] for each in (page["matching"], *page["states"].values())} == {"at least 0"}


@pytest.mark.parametrize("path", ["deliveries", "catalog/products"])
def test_a_count_gets_the_list_s_remaining_time_and_counts_at_least_what_is_shown(served, monkeypatch, path):
    given: list[float] = []

    def count(*_, seconds: float) -> Count:
        given.append(seconds)
        return Count(0, False, Horizon((1,), 500))

    monkeypatch.setattr("receiver.search.deliveries.count_deliveries", count)
    monkeypatch.setattr("receiver.search.rows.count_rows", count)
    page = fine(served.get(f"/api/v1/{path}?limit=1&count=true"))
    assert page["matching"] == {"number": 1, "more": True, "says": "at least 1"}
    assert len(given) == 1
    assert 0 <= given[0] < SECONDS


def test_a_search_that_runs_out_of_time_returns_its_horizon(served, monkeypatch):
    monkeypatch.setattr("receiver.search.windows.FIRST_WINDOW", 2)
    monkeypatch.setattr("receiver.search.windows.LARGEST_WINDOW", 2)
    monkeypatch.setattr("receiver.search.windows._Looking.from_behind", _one_window)
    page = fine(served.get("/api/v1/deliveries?event_type=sun.set"))
    assert (page["items"], page["horizon"]["looked_at"]) == ([], 2)
    seen = fine(served.get("/api/v1/deliveries"))["items"]
    assert page["horizon"]["id"] == seen[1]["id"]
    time, received_at = (datetime.fromisoformat(each) for each in (page["horizon"]["time"], seen[1]["received_at"]))
    # The id, which has the time in it, is drawn a moment after the webhook was received.
    assert abs(time - received_at) < timedelta(seconds=TIMEOUT)
    assert (
        fine(served.get(f"/api/v1/deliveries?event_type=sun.set&cursor={page['next']}"))["horizon"]["id"]
        < seen[1]["id"]
    )


def _one_window(looking, key):
    from receiver.search.windows import Found

    return Found([], looking._look_at(key, 2), looking.looked_at)


@pytest.mark.parametrize("path", ["deliveries?source=sigma", "catalog/products?source=iimmpact", "changes?newest=true"])
def test_a_cursor_is_valid_for_its_own_list_only(served, path):
    page = fine(served.get(f"/api/v1/{path}&limit=1"))
    cursor = page.get("cursor") or page["next"]
    assert fine(served.get(f"/api/v1/{path}&limit=1&cursor={cursor}"))["items"] != page["items"]
    for other in ("deliveries?source=iimmpact", "catalog/variants?source=iimmpact", "changes?source=sigma"):
        assert error(served.get(f"/api/v1/{other}&cursor={cursor}")) == (400, "bad_request")


@pytest.mark.parametrize("path", ["deliveries?count=true&states=true", "catalog/products?count=true", "changes"])
def test_a_page_its_cursor_and_its_counts_are_read_in_one_transaction(served, path):
    engine, begun = served.app._served.inbox.database.engine, []

    def note(_) -> None:
        begun.append(1)

    event.listen(engine, "begin", note)
    try:
        fine(served.get(f"/api/v1/{path}"))
    finally:
        event.remove(engine, "begin", note)
    assert len(begun) == 1


def test_a_cursor_of_another_database_is_refused(served, lend_database, tmp_path):
    cursor = fine(served.get("/api/v1/deliveries?limit=1"))["next"]
    with lend_database(tmp_path) as url, serving(url) as other:
        with other.beside.write() as connection:
            connection.execute(text("UPDATE identity SET name = 'another'"))
        answer = other.get(f"/api/v1/deliveries?cursor={cursor}")
    assert error(answer) == (400, "bad_request")
    assert "belongs to another database" in answer.json()["message"]


# ── the feed ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_following_by_cursor_and_by_number_gives_the_same_changes(served):
    by_number = fine(served.get("/api/v1/changes"))["items"]
    seen, cursor = [], "begin"
    while items := (page := fine(served.get(f"/api/v1/changes?limit=1&cursor={cursor}")))["items"]:
        seen += items
        cursor = page["cursor"]
    assert seen == by_number
    assert len(seen) == 3


def test_a_filtered_feed_continues_after_the_changes_it_has_examined(served):
    page = fine(served.get("/api/v1/changes?table=variants"))
    assert (page["items"], page["next"]) == ([], fine(served.get("/api/v1/changes"))["next"])


def test_a_number_after_the_end_of_the_feed_is_answered_410_with_advice(served):
    answer = served.get("/api/v1/changes?after=999")
    assert error(answer) == (410, "not_this_feed")
    assert "read the rows anew (`/api/v1/catalog`)" in answer.json()["message"]


def test_a_cursor_is_answered_410_if_the_feed_has_another_change_of_that_number(mirror_url):
    """That happens after an older backup was restored and the feed has grown past that number again."""
    with serving(mirror_url, with_worker=True) as working:
        for number in range(2):
            working.ended(working.send("iimmpact", id=f"A{number}", data=LAMP))
        cursor = fine(working.get("/api/v1/changes?cursor=begin"))["cursor"]
        assert fine(working.get(f"/api/v1/changes?cursor={cursor}"))["items"] == []
        with working.beside.write() as connection:
            connection.execute(text("UPDATE changes SET external_id = 'B1' WHERE external_id = 'A1'"))
        assert error(working.get(f"/api/v1/changes?cursor={cursor}")) == (410, "not_this_feed")
        with working.beside.write() as connection:
            connection.execute(text("UPDATE changes SET external_id = 'A1' WHERE external_id = 'B1'"))
            connection.execute(text("UPDATE identity SET name = 'another'"))
        assert error(working.get(f"/api/v1/changes?cursor={cursor}")) == (410, "not_this_feed")


def test_whole_rows_are_returned_with_their_changes_on_request(served):
    page = fine(served.get("/api/v1/changes?newest=true&whole=true"))
    for change, row in zip(page["items"], page["rows"], strict=True):
        assert row is None or (row["external_id"], row["source"]) == (change["external_id"], change["source"])
    assert any(page["rows"])


def test_whole_rows_end_a_page_that_is_large_enough(mirror_url):
    with serving(mirror_url, with_worker=True, api_page_bytes=1_024) as working:
        for number in range(4):
            working.ended(working.send("iimmpact", id=f"A{number}", data=LAMP | {"note": "x" * 600}))
        seen, after = [], 0
        while items := (page := fine(working.get(f"/api/v1/changes?whole=true&after={after}")))["items"]:
            assert len(page["rows"]) == len(items) < 4
            seen += [each["external_id"] for each in items]
            after = page["next"]
    assert seen == ["A0", "A1", "A2", "A3"]


def test_the_changes_of_one_delivery_are_listed(served):
    delivery = fine(served.get("/api/v1/deliveries?entity=product:A1&source=iimmpact"))["items"][0]["id"]
    (change,) = fine(served.get(f"/api/v1/changes?delivery={delivery}"))["items"]
    assert (change["external_id"], change["delivery_id"]) == ("A1", delivery)


# ── tags and the docs page ────────────────────────────────────────────────────────────────────────────────────


def test_an_unchanged_row_is_answered_304(served):
    path = "/api/v1/catalog/products/iimmpact/A1"
    had = served.get(path).headers["etag"]

    def again(tag: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token(Scope.READ)}", "If-None-Match": tag}
        return served.client.get(path, headers=headers)

    for tag in (had, f'"x", W/{had}', "*"):
        answer = again(tag)
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", had)
    for tag in ('"x"', had.strip('"'), "", ",,,"):
        assert again(tag).status_code == 200
    with served.beside.write() as connection:
        connection.execute(text("UPDATE products SET name = 'Torch' WHERE external_id = 'A1'"))
    assert again(had).json()["row"]["name"] == "Torch"


class Addresses(HTMLParser):
    """Collects the addresses that a page would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: set[str] = set()
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids.add(given.get("id") or "")
        if tag in ("script", "link", "img", "iframe", "object", "embed", "form") or "src" in given:
            self.fetched.append(tag)
        if tag == "a":
            self.links.add(given["href"] or "")


def test_the_docs_page_shows_every_address_and_fetches_nothing(served):
    answer = served.client.get("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    page = Addresses()
    page.feed(answer.text)
    assert page.fetched == []
    assert page.links - {"openapi.json"} <= {f"#{each}" for each in page.ids}
    document = json.loads(served.client.get("/openapi.json").text)
    for methods in document["paths"].values():
        assert {operation["operationId"] for operation in methods.values()} <= page.ids


def test_the_docs_page_says_which_parameters_are_required(served):
    page = served.client.get("/docs").text
    (search,) = re.findall(r'<section id="search">(.*?)</section>', page, re.S)
    assert "<th>required</th>" in search
    assert "<td><code>q</code></td><td>query</td><td>yes</td>" in search
    (listed,) = re.findall(r'<section id="list_deliveries">(.*?)</section>', page, re.S)
    assert "<td>yes</td>" not in listed
