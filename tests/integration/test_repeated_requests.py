"""Requests that a client repeats with their key, because it never got the answer: they get the answer of the first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from serving import SECRET_KEY, Served, serving
from sqlalchemy import text

from receiver.api.tokens import Scope
from receiver.findings.finding import Finding
from receiver.findings.record import update_record
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
