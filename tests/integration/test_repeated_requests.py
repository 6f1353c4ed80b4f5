"""Requests that a client repeats with their key, because it never got the answer: they get the answer of the first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from serving import SECRET_KEY, Served, error, serving
from sqlalchemy import text

from receiver.api.errands import SEND_TEST_EVENT
from receiver.api.tokens import Scope
from receiver.findings.finding import Finding
from receiver.findings.record import update_record
from receiver.metrics.few_names import TEST_EVENT_TYPE
from receiver.runs.actions import Asked, By, Effect, Via, record
from receiver.runs.refused import VERIFY_REFUSED
from receiver.sessions.links import Links
from receiver.sessions.roles import Role
from receiver.sessions.sessions import Sessions


@pytest.fixture
def served(mirror_url):
    with serving(mirror_url) as running:
        yield running


def asked_twice(served: Served, path: str, *, between=lambda: None) -> list[dict[str, Any]]:
    """Return the answers to a request and to its repetition; `between` is called before the repetition."""
    answers = []
    for then in (between, lambda: None):
        answer = served.get(path, scope=Scope.OPERATE, method="POST")
        assert answer.is_success, answer.text
        answers.append(answer.json())
        then()
    return answers


def test_the_repeated_end_of_a_session_is_answered_with_the_session_and_not_as_unknown(served: Served):
    now = datetime.now(UTC)
    links = Links([SECRET_KEY])
    signing = Sessions(served.beside, [SECRET_KEY], lifetime=timedelta(hours=1), idle=timedelta(hours=1))
    signing.begin(links.read(links.issue("ops-1", Role.VIEWER, now=now), now=now), now=now)
    (session,) = served.get("/api/v1/sessions").json()["items"]
    first, again = asked_twice(served, f"/api/v1/sessions/{session['id']}/end?idempotency_key=end-1")
    assert again == first
    assert first["seen_at"] == session["seen_at"]


def test_a_repeated_acknowledgement_is_answered_with_the_finding_although_it_has_closed(served: Served):
    now = datetime.now(UTC)
    found = Finding("one_cause", "sigma", now, "It is so", "Mend it.")
    update_record(served.beside, [found], now=now)
    closing = now + timedelta(minutes=4)
    path = f"/api/v1/findings/{found.id}/acknowledge?idempotency_key=known-1"
    first, again = asked_twice(served, path, between=lambda: update_record(served.beside, [], now=closing))
    assert first["closed_at"] is None
    assert again["closed_at"] is not None
    assert again | {"closed_at": None} == first


def test_a_repeated_try_says_whether_more_waited_at_the_first(served: Served, monkeypatch):
    monkeypatch.setattr("receiver.api.attempts.MOST_HURRIED", 1)
    for number in range(2):
        served.send("iimmpact", id=f"W{number}", key=f"w{number}")
    with served.beside.write() as connection:
        connection.execute(text("UPDATE deliveries SET attempts = 1, due_at = '2099-01-01T00:00:00.000000Z'"))
    first, again = asked_twice(served, "/api/v1/try?source=iimmpact&idempotency_key=try-1")
    assert again == first == {"status": "pending", "deliveries": 1, "more": True}


#: By address, the verb and the arguments of an action whose repetition is answered from its record.
ANSWERED_FROM_RECORDS: dict[str, tuple[str, dict[str, Any]]] = {
    "/api/v1/sessions/1/end": ("end session", {"session": "1"}),
    "/api/v1/sources/sigma/test": (SEND_TEST_EVENT, {"source": "sigma", "event_type": TEST_EVENT_TYPE}),
    "/api/v1/refused/sigma/verify": (VERIFY_REFUSED, {"source": "sigma"}),
    "/api/v1/refused/sigma/drop": ("drop refused", {"source": "sigma"}),
    "/api/v1/try?source=sigma": ("try now", {"source": "sigma"}),
    "/api/v1/runs/1/cancel": ("cancel run", {"run": "1"}),
}


@pytest.mark.parametrize("path", ANSWERED_FROM_RECORDS)
def test_a_repetition_of_a_request_whose_record_was_edited_by_hand_is_told_so(served: Served, path: str):
    what, arguments = ANSWERED_FROM_RECORDS[path]
    edited: list[dict[str, Any]] = [
        {"seen_at": 1, "dropped": "x", "deliveries": []},
        {"address": [], "verified": None, "run": 7, "seen_at": "soon"},
    ]
    for number, result in enumerate(edited):
        asked = Asked(by=By("api", Via.API), what=what, arguments=arguments, key=f"key-{number}")
        answer = asked_after_record(served, path, asked, result)
        assert error(answer) == (409, "key_used"), answer.text
        assert "edited by hand" in answer.json()["message"]


def test_a_repetition_takes_the_record_of_a_newer_release_that_says_more(served: Served):
    asked = Asked(by=By("api", Via.API), what="cancel run", arguments={"run": "1"}, key="newer-1")
    recorded = {"run": "1", "state": "cancelled", "note": "of a newer release"}
    answer = asked_after_record(served, "/api/v1/runs/1/cancel", asked, recorded)
    assert answer.json() == {"run": "1", "state": "cancelled", "again": True}


def asked_after_record(served: Served, path: str, asked: Asked, result: dict[str, Any]) -> httpx.Response:
    """Ask for an action whose record, with this result, is there already."""
    with served.beside.write() as connection:
        record(connection, asked, Effect(1, result), now=datetime.now(UTC))
    query = f"{'&' if '?' in path else '?'}idempotency_key={asked.key}"
    return served.get(f"{path}{query}", scope=Scope.OPERATE, method="POST")
