"""Numbers are those of the lists behind them, links lead to something, and filters explain themselves."""

from __future__ import annotations

import re
from datetime import datetime
from html import unescape
from pathlib import Path

import followed
import pytest
from senders import sent
from serving import Served
from sqlalchemy import delete, update
from visiting import Visitor, text_of, visiting
from waiting import wait_until

from receiver.console import downloads, remedies
from receiver.console.pages import row, run
from receiver.following.followers import FOLLOWERS
from receiver.inbox.tables import BODIES, DELIVERIES
from receiver.metrics import few_names


def leads(page: str, beginning: str) -> dict[str, str]:
    """Return the texts of the links whose addresses begin so, by these addresses."""
    found = re.findall(r'<a[^>]* href="([^"]*)"[^>]*>(.*?)</a>', page, re.DOTALL)
    return {unescape(address): text_of(text) for address, text in found if unescape(address).startswith(beginning)}


@pytest.mark.parametrize("page", ["/sources", "/sources/sigma"])
def test_pending_and_processing_deliveries_are_counted_apart_as_in_their_lists(tmp_path: Path, page: str) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db") as (served, visitor):
        first, *_ = (int(served.send("sigma", key=key)) for key in ("one", "two", "three"))
        with served.beside.write() as connection:
            claimed = update(DELIVERIES).where(DELIVERIES.c.id == first)
            connection.execute(claimed.values(state="processing", claimed_by="w"))
        numbers = leads(visitor.page(page), "/console/deliveries?source=sigma&state=p")
        assert [int(text.split()[0]) for text in numbers.values()] == [2, 1]
        for address, text in numbers.items():
            listed = text_of(visitor.page(address.removeprefix("/console")))
            assert re.search(rf"\b{text.split()[0]} match", listed)


def test_a_follower_that_has_not_begun_leads_to_no_change(tmp_path: Path) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db") as (served, visitor):
        followed.add(served.beside)
        assert "/console/changes/2" in leads(visitor.page("/followers"), "/console/changes/")
        with served.beside.write() as connection:
            connection.execute(update(FOLLOWERS).values(seq=0))
        assert "/console/changes/0" not in leads(visitor.page("/followers"), "/console/changes/")


def test_the_deliveries_about_a_row_whose_id_is_a_blank_are_those_alone(tmp_path: Path) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db", with_worker=True) as (served, visitor):
        for identity in (" ", "A", "B"):
            served.ended(served.send("iimmpact", id=identity, key=identity, data={"display_name": "Lamp"}))
        [address] = leads(visitor.page("/mirror/products/iimmpact/%20"), "/console/deliveries?entity=")
        assert "1 matches." in text_of(visitor.page(address.removeprefix("/console")))
        assert "Look for a SKU" in text_of(visitor.page("/search", q=" "))


def test_a_live_page_of_refused_requests_is_told_of_new_ones_and_of_those_that_leave(tmp_path: Path) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db") as (served, visitor):
        told = [live_marks(visitor.page("/refused"))]
        for number in range(2):
            content, headers = sent("sigma", b"%d" % number, "a secret that was changed there")
            assert served.post("sigma", content, headers).status_code == 401
            wait_until(lambda number=number: served.count("refused") == number + 1, "the keeper")
            told.append(live_marks(visitor.page("/refused")))
        with served.beside.write() as connection:
            connection.exec_driver_sql("DELETE FROM refused WHERE id = (SELECT min(id) FROM refused)")
        told.append(live_marks(visitor.page("/refused")))
        assert len(set(told)) == len(told)


def live_marks(page: str) -> tuple[str, ...]:
    """Return those marks of a page that it listens to."""
    names = ("deliveries", "changes", "runs", "findings", "followers", "refused")
    [parts], [marks] = re.findall(r'data-live="([^"]*)"', page), re.findall(r'data-marks="([^"]*)"', page)
    by_name = dict(zip(names, marks.split(","), strict=True))
    return tuple(by_name[name] for name in parts.split())


@pytest.mark.parametrize(("path", "name"), [("/deliveries", "from"), ("/deliveries", "to"), ("/changes", "since")])
def test_a_list_says_which_moment_a_relative_time_means(shown: Served, operator: Visitor, path: str, name: str) -> None:
    page = operator.page(path, **{name: "14:02"})
    [meant] = re.findall(rf"<p>{name.capitalize()} .*?14:02.*? means <time datetime=\"([^\"]*)\"", page)
    assert datetime.fromisoformat(meant).strftime("%H:%M:%S %Z") == "14:02:00 UTC"
    [field] = re.findall(rf'<input name="{name}"[^>]*>', page)
    assert 'placeholder="2h, or 14:02 in UTC"' in field


def test_a_list_without_matches_names_a_filter_with_a_blank_that_cannot_be_seen(
    shown: Served, operator: Visitor
) -> None:
    for path, name in (("/deliveries", "event_type"), ("/mirror/products", "sku")):
        says = f"The filter “{name.replace('_', ' ')}” begins or ends with a blank"
        assert says in text_of(operator.page(path, **{name: "product.gone "}))
        assert says not in text_of(operator.page(path, **{name: "product.gone"}))


def test_a_mistyped_filter_leads_back_to_the_page_without_filters(shown: Served, operator: Visitor) -> None:
    answer = operator.get("/deliveries", **{"from": "yesterday"})
    assert answer.status_code == 400
    assert '<a href="?">The same page without filters</a>' in answer.text
    assert operator.get("/deliveries?").status_code == 200
    elsewhere = operator.get("/deliveries?source=sigma", headers={"Host": "other.example"})
    for other in (operator.get("/deliveries/1"), elsewhere):
        assert (other.is_error, 'href="?"' in other.text) == (True, False)


def test_a_download_is_named_after_its_page_and_the_table_or_run_that_it_shows(
    shown: Served, operator: Visitor
) -> None:
    for path, name in (("/mirror/products.csv", "rows-products.csv"), ("/deliveries.jsonl", "deliveries.jsonl")):
        assert operator.get(path).headers["content-disposition"] == f'attachment; filename="{name}"'
    assert downloads.file_name(("rows", 'a"\r\nb/ä'), "csv") == "rows-a_b_.csv"


def test_a_finding_about_an_event_type_without_a_handler_leads_to_its_deliveries_alone(tmp_path: Path) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db", with_worker=True) as (served, visitor):
        for number, verb in enumerate(("eclipsed", "eclipsed", "a b&c={source}#?")):
            served.ended(served.send("sigma", id=f"A{number}", key=str(number), event_type=f"moon.{verb}"))
        served.app._watch.tally()
        served.app._watch.evaluate()
        found = leads(visitor.page("/findings"), "/console/deliveries?source=sigma&state=ignored&event_type=moon.")
        listed = [text_of(visitor.page(address.removeprefix("/console"))) for address in found]
        assert sorted(re.findall(r"(\d+) match", " ".join(listed))) == ["1", "2"]


def test_event_types_that_are_counted_together_or_cut_have_no_list_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(few_names, "_types", few_names.Names(2))
    with visiting(f"sqlite:///{tmp_path}/c.db", with_worker=True) as (served, visitor):
        for number, verb in enumerate(("eclipsed", "x" * 200, "waned", "waxed")):
            served.ended(served.send("sigma", id=f"A{number}", key=str(number), event_type=f"moon.{verb}"))
        served.app._watch.tally()
        served.app._watch.evaluate()
        page = visitor.page("/sources/sigma").partition("Without a handler")[2]
        assert [*leads(page, "/console/deliveries?source=sigma&state=ignored").values()] == ["moon.eclipsed"]
        assert "others 2" in text_of(page)
        findings = visitor.page("/findings")
        assert "2 deliveries of sigma were ignored since" in text_of(findings)
        for address in leads(findings, "/console/deliveries?source=sigma&state=ignored"):
            assert re.search(r"[1-9] match", text_of(visitor.page(address.removeprefix("/console"))))


@pytest.mark.parametrize("is_telling", [True, False])
def test_a_fault_leads_to_a_list_only_if_a_filter_finds_its_deliveries_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_telling: bool
) -> None:
    if not is_telling:
        monkeypatch.setattr(remedies, "telling_part", lambda *_: None)
    with visiting(f"sqlite:///{tmp_path}/c.db", with_worker=True) as (served, visitor):
        served.ended(served.send("sigma", b"not JSON"))
        assert bool(leads(visitor.page("/faults"), "/console/deliveries?source=sigma&state=dead")) is is_telling


def test_the_page_of_faults_says_that_dead_deliveries_count_only_while_their_bodies_are_kept(
    tmp_path: Path,
) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db", with_worker=True) as (served, visitor):
        ids = [served.ended(served.send("sigma", b"not JSON" + suffix))["id"] for suffix in (b"", b"!")]
        with served.beside.write() as connection:
            connection.execute(delete(BODIES).where(BODIES.c.delivery_id == int(ids[0])))
        page = visitor.page("/faults")
        assert [each["dead"] for each in served.get("/api/v1/faults").json()["items"]] == [1]
        assert "Dead ones count while their bodies are kept" in text_of(page)
        (address,) = leads(page, "/console/deliveries?source=sigma&state=dead")
        assert "2 match" in text_of(visitor.page(address.removeprefix("/console")))


def test_a_run_with_many_actions_and_a_row_with_many_changes_say_that_there_are_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db", with_worker=True) as (served, visitor):
        for price in ("1.00", "2.00", "3.00"):
            served.ended(served.send("iimmpact", id="A", key=price, data={"display_name": f"Lamp for {price}"}))
        visitor.press("/runs/plan", kind="prune")
        wait_until(lambda: served.get("/api/v1/runs/1").json()["state"] == "planned", "the plan")
        visitor.press("/runs/1/start", reason="because")
        assert "All actions of this run" not in visitor.page("/runs/1")
        assert "not shown" not in visitor.page("/mirror/products/iimmpact/A")
        monkeypatch.setattr(run, "ACTIONS_SHOWN", "1")
        monkeypatch.setattr(row, "MOST_ENTRIES", 1)
        assert "/console/actions?run=1" in leads(visitor.page("/runs/1"), "/console/actions?")
        assert "Earlier entries are not shown" in text_of(visitor.page("/mirror/products/iimmpact/A"))


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/deliveries", "GET, HEAD"),
        ("/runs/1/start", "GET, HEAD, POST"),
        ("/sign-out", "POST"),
        ("/mirror/products/iimmpact/A/ask", "GET, HEAD, POST"),
    ],
)
def test_a_wrong_method_is_answered_with_those_that_the_page_takes(
    shown: Served, operator: Visitor, path: str, allowed: str
) -> None:
    answer = operator.client.put(path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
