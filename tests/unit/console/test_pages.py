"""Pages over a socket: what they show, and the request and command that show the same."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path

import pytest
from serving import Served, wait_until
from sqlalchemy import update
from visiting import Visitor, hidden_fields, text_of, visiting

from receiver.api.changes import ChangePage
from receiver.console import downloads
from receiver.console.pages import deliveries
from receiver.findings import tallies
from receiver.findings.counting import KindCount, TallyKey
from receiver.inbox.tables import BODIES


def test_the_overview_says_that_nothing_needs_you(tmp_path: Path) -> None:
    with visiting(f"sqlite:///{tmp_path}/quiet.db") as (_, visitor):
        assert "Nothing needs you." in text_of(visitor.page("/"))


def test_each_bar_of_the_chart_is_a_link_to_its_deliveries(operator: Visitor) -> None:
    page = operator.page("/", period="day")
    bars = re.findall(r"<svg.*?</svg>", page, re.S)[0]
    links = [unescape(link) for link in re.findall(r'<a href="([^"]*)"', bars)]
    assert len(links) == 72
    assert all(link.startswith("/console/deliveries?from=") for link in links)
    assert operator.client.get(links[0].removeprefix("/console")).status_code == 200


def test_the_chart_says_its_first_and_last_time_and_its_highest_number(tmp_path: Path) -> None:
    with visiting(f"sqlite:///{tmp_path}/quiet.db") as (served, visitor):
        assert "nothing in this time" in text_of(visitor.page("/"))
        at = datetime.now(UTC) - timedelta(minutes=10)
        with served.beside.write() as connection:
            for each, number in enumerate((1_200, 7)):
                counted = {TallyKey("sigma", "ended", "processed/applied"): KindCount(number)}
                tallies.add(connection, "p", counted, at=at - each * timedelta(minutes=20))
        for period, of_bar in (("hour", "a minute"), ("day", "20 minutes"), ("week", "two hours")):
            page = visitor.page("/", period=period)
            assert re.search(rf"at most 1,20\d in {of_bar}", text_of(page))
            first, last = re.search(r'</svg>\s*<p class="axis">(.*?)</p>', page)[1].split("</span><span>")
            shown = [datetime.fromisoformat(re.search(r'datetime="([^"]*)"', each)[1]) for each in (first, last)]
            assert shown[0] < at < shown[1]
            assert {"hour": 1, "day": 24, "week": 168}[period] == (shown[1] - shown[0]) / timedelta(hours=1)


@pytest.mark.parametrize(("seconds_ago", "is_shown"), [(0, True), (60, True), (3_600, False), (-5, True)])
def test_the_message_about_an_action_is_shown_for_a_while_only(
    operator: Visitor, seconds_ago: int, is_shown: bool
) -> None:
    """A page may be open for hours, and its address be sent to another person."""
    when = int(datetime.now(UTC).timestamp()) - seconds_ago
    page = text_of(operator.page("/actions", done="plan_run", when=str(when)))
    assert ("The plan is being made." in page) is is_shown


@pytest.mark.parametrize("when", ["", "soon", "9" * 5_000, "-1", "\u0661"])
def test_an_odd_time_of_an_action_hides_at_most_its_message(operator: Visitor, when: str) -> None:
    assert operator.get("/actions", done="plan_run", when=when).status_code == 200


def test_an_action_is_told_in_words(tmp_path: Path) -> None:
    with visiting(f"sqlite:///{tmp_path}/acts.db", with_worker=True) as (served, visitor):
        served.ended(served.send("sigma", key="one"))
        visitor.press("/runs/plan", kind="replay", source="sigma", conflict="false")
        wait_until(lambda: served.get("/api/v1/runs/1").json()["state"] == "planned", "the plan")
        words = text_of(visitor.page("/actions"))
        assert "plan replay , run 1 source sigma" in words
        assert "1 delivery" in words
        assert "{" not in words
        assert "false" not in words


def test_a_delivery_is_listed_and_shown_with_its_outcome(shown: Served, operator: Visitor) -> None:
    delivery = shown.send("sigma", key="listed")
    shown.ended(delivery)
    assert f"/console/deliveries/{delivery}" in operator.page("/deliveries")
    page = text_of(operator.page(f"/deliveries/{delivery}"))
    assert "accepted, verified by secret 1" in page
    assert f"GET /api/v1/deliveries/{delivery}" in page
    assert f"hookmirror show {delivery}" in page


def test_conflicts_are_one_link_away_in_the_list_of_deliveries_and_a_second_one_leads_back(operator: Visitor) -> None:
    assert 'href="/console/deliveries?state=dead&amp;conflict=true"' in operator.page("/deliveries", state="dead")
    page = operator.page("/deliveries", state="dead", conflict="true")
    assert re.search(r'href="/console/deliveries\?state=dead" aria-current="true"[^>]*>conflict<', page)


def test_the_filters_of_a_list_are_in_the_footer_as_request_and_command(operator: Visitor) -> None:
    page = text_of(operator.page("/deliveries", source="sigma", event_type="it's", **{"from": "2h"}))
    assert "GET /api/v1/deliveries?source=sigma&event_type=it%27s&from=2h" in page
    assert """hookmirror deliveries --source sigma --event-type 'it'"'"'s' --since 2h""" in page


def test_an_empty_list_says_so_and_links_to_all(operator: Visitor) -> None:
    page = operator.page("/deliveries", reason="no reason has this")
    assert "No delivery matches. Show all" in text_of(page)
    assert 'href="/console/deliveries">Show all' in page


def test_empty_fields_of_a_filter_form_filter_nothing(operator: Visitor) -> None:
    answer = operator.get("/deliveries", source="", state="", **{"from": ""})
    assert answer.status_code == 200


def test_an_unknown_or_unreadable_filter_is_answered_with_a_page_that_says_so(operator: Visitor) -> None:
    unknown = operator.get("/deliveries", colour="red")
    assert (unknown.status_code, "no filter 'colour'" in text_of(unknown.text)) == (400, True)
    wrong = operator.get("/deliveries", state="lost")
    assert (wrong.status_code, "takes one of pending" in text_of(wrong.text)) == (400, True)


def test_an_unknown_thing_is_answered_with_a_page_that_says_so(operator: Visitor) -> None:
    for path in ("/deliveries/1", "/deliveries/x", "/nothing", "/static/none.js"):
        answer = operator.get(path)
        assert answer.status_code == 404
        assert '<p class="refusal" role="alert">' in answer.text, path


def test_a_list_can_be_downloaded_whole_as_csv_and_json_lines(shown: Served, operator: Visitor) -> None:
    ids = {shown.send("indexed", id=f"=1+{number}", key=f"d{number}") for number in range(3)}
    lines = [json.loads(line) for line in operator.page("/deliveries.jsonl", source="indexed").splitlines()]
    assert {line["id"] for line in lines} >= ids
    answer = operator.get("/deliveries.csv", source="indexed")
    assert answer.headers["content-disposition"] == 'attachment; filename="deliveries.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert {row["id"] for row in rows} == {line["id"] for line in lines}


def test_an_empty_csv_has_the_headings_of_a_full_one_and_begins_with_the_mark_that_excel_needs(
    shown: Served, operator: Visitor
) -> None:
    shown.send("indexed", id="headed", key="headed")
    full, empty = (operator.get("/deliveries.csv", source="indexed", entity=entity) for entity in ("", "none:0"))
    assert empty.content.startswith(b"\xef\xbb\xbfid,")
    assert empty.content.splitlines() == full.content.splitlines()[:1]
    for path in ("/mirror/products.csv", "/changes.csv", "/runs.csv", "/actions.csv", "/refused.csv"):
        assert operator.get(path).content.count(b",") > 3, path


def test_an_older_page_of_a_list_with_a_relative_time_is_one_link_away(
    shown: Served, operator: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "DELIVERIES_SHOWN", "1")
    older, newer = (shown.send("indexed", id=f"old{number}", key=f"old{number}") for number in range(2))
    page = operator.page("/deliveries", source="indexed", **{"from": "2h"})
    assert f"/console/deliveries/{newer}" in page
    (link,) = re.findall(r'rel="next" href="/console([^"]+)"', page)
    assert f"/console/deliveries/{older}" in operator.page(unescape(link))


def test_a_download_with_a_relative_time_has_every_page(
    shown: Served, operator: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = {shown.send("indexed", id=f"all{number}", key=f"all{number}") for number in range(3)}
    monkeypatch.setattr(downloads, "LARGEST_PAGE", 1)
    lines = [
        json.loads(line) for line in operator.page("/deliveries.jsonl", source="indexed", **{"from": "2h"}).splitlines()
    ]
    assert {line["id"] for line in lines} >= sent


def test_a_download_without_cursors_keeps_relative_times_at_the_moments_of_its_first_page() -> None:
    words = {"since": "2h", "source": "indexed"}
    moment = datetime(2026, 11, 28, 10, tzinfo=UTC)
    answer = ChangePage([], 7, times={"since": moment})
    part = downloads.part_of(answer, words, follows_in="after")
    assert part.following == {"source": "indexed", "since": "2026-11-28T10:00:00Z", "after": "7"}


def test_a_plan_of_all_that_match_has_the_moments_of_the_list(shown: Served, operator: Visitor) -> None:
    shown.ended(shown.send("indexed", id="planned", key="planned"))
    page = operator.page("/deliveries", source="indexed", **{"from": "2h", "to": "0s"})
    (form,) = [each for each in page.split("<form") if "Plan a replay of all" in each]
    moments = [datetime.fromisoformat(hidden_fields(f"<form{form}")[name]) for name in ("from", "to")]
    assert moments[1] - moments[0] == timedelta(hours=2)


def test_an_address_without_its_final_slash_leads_to_the_overview(operator: Visitor) -> None:
    answer = operator.client.get(f"{operator.base}/console")
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/")


def test_what_a_body_holds_is_shown_in_hexadecimal_digits_if_it_is_not_text(tmp_path: Path) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db") as (served, visitor):
        delivery = served.send("sigma")
        with served.beside.write() as connection:
            connection.execute(update(BODIES).values(plain=b"\xff\xfe not text"))
        assert "00000000 ff fe 20 6e 6f 74" in text_of(visitor.page(f"/deliveries/{delivery}"))
