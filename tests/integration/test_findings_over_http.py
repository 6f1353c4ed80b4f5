"""Findings, faults, tallies and refused requests in the API and in commands."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from senders import SOURCES, body, sent
from serving import Served, error, serving, wait_until
from sqlalchemy import insert

from receiver.api.tokens import Scope
from receiver.findings import tallies
from receiver.findings.circumstances import circumstances
from receiver.findings.counting import KindCount, TallyKey
from receiver.findings.finding import Finding
from receiver.findings.record import update_record
from receiver.runs.actions import ACTIONS
from receiver.runs.tables import RUNS

OLD = {**SOURCES, "sigma": {"secrets": ["the old secret"]}}


@pytest.fixture
def served(mirror_url):
    with serving(mirror_url, sources=OLD) as running:
        yield running


@pytest.fixture(scope="module")
def asked(lend_database, tmp_path_factory):
    """Serve for the tests that only ask."""
    with lend_database(tmp_path_factory.mktemp("asked")) as url, serving(url, sources=OLD) as running:
        yield running


def refuse(served: Served, number: int) -> None:
    for each in range(number):
        assert served.post("sigma", *sent("sigma", body("sigma", key=f"k{each}"))).status_code == 401
    served.app._keeper.flush()


def test_a_changed_secret_is_a_finding_with_a_link_to_the_kept_requests(served: Served):
    refuse(served, 4)
    served.app._watch.tally()
    (found,) = (each for each in served.get("/api/v1/findings").json()["items"] if each["source"] == "sigma")
    assert (found["rule"], found["opened_at"]) == ("secret_changed", None)
    kept = served.get(found["evidence"]["link"]).json()["items"]
    assert [each["code"] for each in kept] == ["signature_wrong"] * 4
    assert json.loads(kept[0]["begins"])["deliveryId"] == "k3"


def test_an_open_finding_counts_in_the_metric_until_it_is_acknowledged(served: Served):
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


def test_a_finding_that_is_not_open_cannot_be_acknowledged(asked: Served):
    answer = asked.get("/api/v1/findings/nothing/acknowledge", scope=Scope.OPERATE, method="POST")
    assert error(answer) == (404, "not_found")


def test_closed_findings_are_shown_on_request(served: Served):
    now = datetime.now(UTC)
    one = Finding("body_too_large", "sigma", now - timedelta(days=2), "one was too large", "Raise it.")
    update_record(served.beside, [one], now=now - timedelta(days=2))
    update_record(served.beside, [], now=now - timedelta(days=1))
    assert one.id not in [each["id"] for each in served.get("/api/v1/findings").json()["items"]]
    found = {each["id"]: each for each in served.get("/api/v1/findings?all=true").json()["items"]}
    assert found[one.id]["closed_at"] is not None


def newest_action(served: Served) -> dict[str, Any] | None:
    return next(iter(served.get("/api/v1/actions?limit=1").json()["items"]), None)


def test_kept_requests_can_be_verified_again_or_dropped(served: Served):
    refuse(served, 3)
    operate = {"scope": Scope.OPERATE, "method": "POST"}
    assert served.get("/api/v1/refused/sigma/verify", **operate).json() == {
        "verified": 0,
        "accepted": 0,
        "duplicates": 0,
        "left": 3,
    }
    assert error(served.get("/api/v1/refused/nobody/verify", **operate)) == (404, "not_found")
    assert error(served.get("/api/v1/refused/sigma/drop", **operate)) == (400, "reason_wanted")
    before = newest_action(served)
    assert served.get("/api/v1/refused/sigma/drop?reason=a+stranger", **operate).json() == {"dropped": 3}
    assert served.get("/api/v1/refused").json() == {"items": [], "next": None}
    dropped = newest_action(served)
    assert (dropped["what"], dropped["arguments"], dropped["count"]) == ("drop refused", {"source": "sigma"}, 3)
    assert (dropped["reason"], dropped["result"]) == ("a stranger", {"dropped": 3})
    assert served.get("/api/v1/refused/sigma/drop", **operate).json() == {"dropped": 0}
    assert newest_action(served) == dropped != before


def test_refused_requests_are_listed_page_by_page_to_the_end(served: Served):
    refuse(served, 5)
    seen, cursor = [], ""
    while True:
        page = served.get(f"/api/v1/refused?source=sigma&limit=2{cursor}").json()
        seen += [each["id"] for each in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert len(seen) == len(set(seen)) == 5


def test_a_refused_body_that_is_not_text_is_shown_in_hexadecimal_digits(served: Served):
    for content in (b"\x00\xff\x1b[31m", b"\x1b[31mred"):
        served.post("sigma", content, {"X-Sigma-Signature": "sha256=" + "0" * 64})
    served.app._keeper.flush()
    shown = served.get("/api/v1/refused").json()["items"]
    assert [(each["begins"], each["begins_encoding"]) for each in shown] == [
        (b"\x1b[31mred".hex(), "hex"),
        (b"\x00\xff\x1b[31m".hex(), "hex"),
    ]


def test_tallies_are_listed_page_by_page_and_minute_by_minute(served: Served):
    served.send("iimmpact", body("iimmpact"))
    served.app._watch.tally()
    page = served.get("/api/v1/tallies?kind=accepted&source=iimmpact").json()
    assert page["items"][0]["number"] >= 1
    assert page["next"] is None
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
def test_an_unreadable_question_about_tallies_is_refused(asked: Served, query: str):
    assert error(asked.get(f"/api/v1/tallies?{query}")) == (400, "bad_request")


def test_tallies_of_an_unknown_source_are_refused_and_those_of_a_removed_one_listed(served: Served):
    refusal = served.get("/api/v1/tallies?source=iimpact")
    assert error(refusal) == (400, "bad_request")
    assert "iimmpact" in refusal.json()["message"]
    assert served.get("/api/v1/tallies?source=iimmpact&kind=nothing").json()["items"] == []
    with served.beside.write() as connection:
        tallies.add(connection, "p", {TallyKey("removed", "refused", ""): KindCount(1)}, at=datetime.now(UTC))
    assert len(served.get("/api/v1/tallies?source=removed").json()["items"]) == 1


def test_faults_are_shown_by_source(mirror_url):
    with serving(mirror_url, with_worker=True) as served:
        ended = served.ended(served.send("iimmpact", b"{}"))
        assert ended["state"] == "dead"
        (fault,) = served.get("/api/v1/faults?source=iimmpact").json()["items"]
        assert (fault["dead"], fault["delivery"]) == (1, ended["id"])
        assert served.get("/api/v1/faults?source=sigma").json() == {"items": []}
        assert error(served.get("/api/v1/faults?source=nobody")) == (400, "bad_request")


def test_the_log_of_a_refusal_names_the_address_of_the_sender(served: Served, capfd):
    served.post("sigma", b"{}")
    wait_until(lambda: "peer=" in (shown := capfd.readouterr().err) and "127.0.0.1" in shown, "the line")


def test_an_old_finding_shows_the_changes_at_its_beginning_however_many_came_since(served: Served, monkeypatch):
    monkeypatch.setattr("receiver.findings.circumstances.MOST_EXAMINED", 2)
    since = datetime.now(UTC) - timedelta(days=9)
    with served.beside.write() as connection:
        for days in (0, 1, 2, 3):
            at = since + timedelta(days=days)
            times = {"planned_at": at, "started_at": at, "started_by": "eve", "planned_by": "eve"}
            values = {"release": "0", "wiring": "x", "tally": {}, "total": 1, "done": 1, "arguments": {}}
            connection.execute(
                insert(RUNS).values(kind="reconcile", sources=["sigma"], state="done", **values, **times)
            )
            done = {"who": "eve", "via": "api", "what": "retry", "arguments": {}, "count": 1, "result": {}}
            connection.execute(insert(ACTIONS).values(at=at, **done))
    found = circumstances(served.beside, since)
    assert [each.says for each in found] == ["eve started run 1, a reconcile of sigma", "eve did “retry” by api"]


def test_a_finding_shows_other_changes_at_its_beginning_and_when_it_was_open_before(served: Served):
    now = datetime.now(UTC)
    with served.beside.write() as connection:
        values = {"release": "0", "wiring": "x", "tally": {}, "total": 1, "done": 1, "arguments": {}}
        began = now - timedelta(minutes=20)
        times = {"planned_at": began, "started_at": began, "started_by": "eve", "planned_by": "eve"}
        connection.execute(insert(RUNS).values(kind="reconcile", sources=["sigma"], state="done", **values, **times))
        nearer = times | {"started_at": now - timedelta(minutes=8)}
        connection.execute(insert(RUNS).values(kind="replay", sources=["sigma"], state="done", **values, **nearer))
    found = Finding("one_cause", "sigma", now - timedelta(minutes=10), "It is so", "Mend it.")
    for ago in (timedelta(days=2), timedelta()):
        update_record(served.beside, [found], now=now - ago)
        update_record(served.beside, [], now=now - ago + timedelta(minutes=4))
    shown = served.get(f"/api/v1/findings/{found.id}").json()
    told = ["eve started run 2, a replay of sigma", "eve started run 1, a reconcile of sigma"]
    assert [each["says"] for each in shown["circumstances"]] == told, "the nearest to its beginning comes first"
    assert shown["circumstances"][0]["link"] == "/api/v1/runs/2"
    assert len(shown["before"]) == 1


def test_a_refused_request_is_shown_while_it_is_kept(served: Served):
    refuse(served, 1)
    (kept,) = served.get("/api/v1/refused").json()["items"]
    assert served.get(f"/api/v1/refused/{kept['id']}").json() == kept
    served.get("/api/v1/refused/sigma/drop", scope=Scope.OPERATE, method="POST")
    answer = served.get(f"/api/v1/refused/{kept['id']}")
    assert (answer.status_code, "it was dropped" in answer.json()["message"]) == (404, True)


def test_several_waiting_deliveries_can_be_tried_now_and_others_stay(served: Served):
    waiting = [served.send("iimmpact", id=f"W{number}", key=f"w{number}") for number in range(2)]
    other = served.send("iimmpact", id="O", key="o")
    with served.beside.write() as connection:
        connection.exec_driver_sql(
            "UPDATE deliveries SET attempts = 1, due_at = '2099-01-01T00:00:00.000000Z' "
            f"WHERE id IN ({', '.join(waiting)})"
        )
    path = f"/api/v1/try?ids={','.join([*waiting, other])}"
    assert error(served.get(path, scope=Scope.OPERATE, method="POST")) == (400, "reason_wanted")
    answer = served.get(f"{path}&reason=the+API+is+back", scope=Scope.OPERATE, method="POST")
    assert (answer.status_code, answer.json()) == (202, {"status": "pending", "deliveries": 2, "more": False})
    assert all(served.delivery(each)["next_attempt_at"] < "2099" for each in waiting)


def test_waiting_deliveries_that_match_filters_can_be_tried_now(served: Served, monkeypatch):
    monkeypatch.setattr("receiver.api.attempts.MOST_HURRIED", 2)
    waiting = [served.send("iimmpact", id=f"W{number}", key=f"w{number}") for number in range(3)]
    other, due = served.send("iimmpact", id="O", key="o"), served.send("iimmpact", id="D", key="d")
    with served.beside.write() as connection:
        connection.exec_driver_sql(
            "UPDATE deliveries SET attempts = 1, due_at = '2099-01-01T00:00:00.000000Z', "
            f"reason = CASE id WHEN {other} THEN 'no such unit' ELSE 'no price ' || id END WHERE id <> {due}"
        )

    def tried(query: str) -> tuple[int, Any]:
        answer = served.get(f"/api/v1/try?{query}reason=mended", scope=Scope.OPERATE, method="POST")
        return answer.status_code, answer.json().get("deliveries", answer.json().get("error"))

    assert tried("source=iimmpact&reason_has=no+price&event_type=moon.rose&") == (409, "not_waiting")
    assert tried("") == (400, "bad_request")
    assert tried(f"ids={other}&source=iimmpact&") == (400, "bad_request")
    path = "/api/v1/try?source=iimmpact&reason_has=no+price&reason=mended"
    answers = [served.get(path, scope=Scope.OPERATE, method="POST").json() for _ in range(2)]
    assert answers == [
        {"status": "pending", "deliveries": 2, "more": True},
        {"status": "pending", "deliveries": 1, "more": False},
    ]
    assert all(served.delivery(each)["next_attempt_at"] < "2099" for each in waiting)
    assert served.delivery(other)["next_attempt_at"] > "2099"
    assert tried("entity=product:O&") == (202, 1)
