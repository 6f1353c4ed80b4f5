"""Findings, faults, tallies and refused requests, as the API and the commands show them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from senders import SOURCES, body, sent
from serving import Served, error, serving, wait_until

from receiver.api.tokens import Scope
from receiver.findings.finding import Finding
from receiver.findings.record import update_record

OLD = {**SOURCES, "sigma": {"secrets": ["the old secret"]}}


@pytest.fixture
def served(mirror_url):
    with serving(mirror_url, sources=OLD) as running:
        yield running


def refuse(served: Served, number: int) -> None:
    for each in range(number):
        assert served.post("sigma", *sent("sigma", body("sigma", key=f"k{each}"))).status_code == 401
    served.app._keeper.flush()


def test_a_changed_secret_is_a_finding_in_the_api_with_a_link_to_what_is_kept(served: Served):
    refuse(served, 4)
    served.app._watch.tally()
    (found,) = (each for each in served.get("/api/v1/findings").json()["items"] if each["source"] == "sigma")
    assert (found["rule"], found["opened_at"]) == ("secret_changed", None)
    kept = served.get(found["evidence"]["link"]).json()["items"]
    assert [each["code"] for each in kept] == ["signature_wrong"] * 4
    assert json.loads(kept[0]["begins"])["deliveryId"] == "k3"


def test_a_finding_that_is_open_counts_in_the_metric_until_it_is_acknowledged(served: Served):
    refuse(served, 4)
    served.app._watch.tally()
    served.app._watch.evaluate()
    line = 'hookmirror_findings{rule="secret_changed",source="sigma"}'
    assert served.metric(line) == 1
    assert served.metric('hookmirror_refused_kept{source="sigma"}') == 4
    (found,) = (each for each in served.get("/api/v1/findings").json()["items"] if each["source"] == "sigma")
    path = f"/api/v1/findings/{found['id']}/acknowledge"
    assert error(served.get(path, method="POST")) == (403, "forbidden")
    answer = served.get(path, scope=Scope.OPERATE, method="POST")
    assert (answer.status_code, answer.json()["acknowledged_at"] is not None) == (200, True)
    assert served.metric(line) == 0


def test_a_finding_that_is_not_open_cannot_be_acknowledged(served: Served):
    answer = served.get("/api/v1/findings/nothing/acknowledge", scope=Scope.OPERATE, method="POST")
    assert error(answer) == (404, "not_found")


def test_closed_findings_are_shown_on_request(served: Served):
    now = datetime.now(UTC)
    one = Finding("body_too_large", "sigma", now - timedelta(days=2), "one was too large", "Raise it.")
    update_record(served.beside, [one], now=now - timedelta(days=2))
    update_record(served.beside, [], now=now - timedelta(days=1))
    assert one.id not in [each["id"] for each in served.get("/api/v1/findings").json()["items"]]
    found = {each["id"]: each for each in served.get("/api/v1/findings?all=true").json()["items"]}
    assert found[one.id]["closed_at"] is not None


def test_kept_requests_are_verified_again_or_dropped_when_somebody_asks(served: Served):
    refuse(served, 3)
    operate = {"scope": Scope.OPERATE, "method": "POST"}
    assert served.get("/api/v1/refused/sigma/verify", **operate).json() == {
        "verified": 0,
        "accepted": 0,
        "duplicates": 0,
        "left": 3,
    }
    assert error(served.get("/api/v1/refused/nobody/verify", **operate)) == (404, "not_found")
    assert served.get("/api/v1/refused/sigma/drop", **operate).json() == {"dropped": 3}
    assert served.get("/api/v1/refused").json() == {"items": [], "next": None}


def test_the_pages_of_refused_requests_lead_to_the_end(served: Served):
    refuse(served, 5)
    seen, cursor = [], ""
    while True:
        page = served.get(f"/api/v1/refused?source=sigma&limit=2{cursor}").json()
        seen += [each["id"] for each in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert len(seen) == len(set(seen)) == 5


def test_the_body_of_a_stranger_is_shown_as_hexadecimal_digits_where_it_is_no_text(served: Served):
    for content in (b"\x00\xff\x1b[31m", b"\x1b[31mred"):
        served.post("sigma", content, {"X-Sigma-Signature": "sha256=" + "0" * 64})
    served.app._keeper.flush()
    shown = served.get("/api/v1/refused").json()["items"]
    assert [(each["begins"], each["begins_encoding"]) for each in shown] == [
        (b"\x1b[31mred".hex(), "hex"),
        (b"\x00\xff\x1b[31m".hex(), "hex"),
    ]


def test_tallies_lead_from_page_to_page_minute_by_minute(served: Served):
    served.send("iimmpact", body("iimmpact"))
    served.app._watch.tally()
    tallies = served.get("/api/v1/tallies?kind=accepted&source=iimmpact").json()
    assert tallies["items"][0]["number"] >= 1
    assert tallies["next"] is None
    first = served.get("/api/v1/tallies?limit=1").json()
    assert len({each["at"] for each in first["items"]}) == 1
    assert len(first["items"]) > 1


@pytest.mark.parametrize(
    "query",
    [
        "after=yesterday",
        "after=2026-03-04T12:00:00",
        "after=",
        "span=day",
        "limit=0",
        "kinds=x",
        "after=9999-12-31T23:59:59-23:59",
    ],
)
def test_a_question_about_tallies_that_cannot_be_read_is_refused(served: Served, query: str):
    assert error(served.get(f"/api/v1/tallies?{query}")) == (400, "bad_request")


def test_faults_are_shown_by_source(mirror_url):
    with serving(mirror_url, with_worker=True) as served:
        ended = served.ended(served.send("iimmpact", b"{}"))
        assert ended["state"] == "dead"
        (fault,) = served.get("/api/v1/faults?source=iimmpact").json()["items"]
        assert (fault["dead"], fault["delivery"]) == (1, ended["id"])
        assert served.get("/api/v1/faults?source=sigma").json() == {"items": []}
        assert error(served.get("/api/v1/faults?source=nobody")) == (400, "bad_request")


def test_a_refusal_names_the_address_at_the_other_end_in_the_log(served: Served, capsys):
    served.post("sigma", b"{}")
    wait_until(lambda: "peer=" in (shown := capsys.readouterr().out) and "127.0.0.1" in shown, "the line")
