"""Lookups that do not return: the person who asks is told so, and which lookups hold the turns."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from serving import Served, serving
from stub_servers import Stub, answering
from visiting import Visitor, text_of, visitor_at
from waiting import TIMEOUT, wait_until

from receiver.api import ask, reads
from receiver.api.tokens import Scope

QUESTION = "/api/v1/catalog/products/pim/e1/ask"


@pytest.fixture
def away() -> threading.Event:
    """Set it, and the API of the source answers at last."""
    return threading.Event()


@pytest.fixture
def api(away) -> Iterator[str]:
    """Serve an API that does not answer before it is told to."""

    class Silent(Stub):
        def get(self) -> None:
            away.wait(TIMEOUT)
            self.answer(b'{"error": "NOT_FOUND"}', status=404)

    with answering(Silent) as url:
        yield f"{url}/api/v1"
        away.set()


@pytest.fixture
def served(tmp_path, api, monkeypatch) -> Iterator[Served]:
    monkeypatch.setattr(ask, "LONGEST_ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(reads, "GRACE", 0.1)
    monkeypatch.setattr(reads, "LONGEST_WAIT", 0.1)
    source = {"dialect": "sigma", "secrets": ["sign-of-these-tests"], "api_url": api, "api_key": "sk"}
    with serving(f"sqlite:///{tmp_path}/asked.db", console=True, sources={"pim": source}) as running:
        yield running


@pytest.fixture
def operator(served) -> Iterator[Visitor]:
    with visitor_at(str(served.client.base_url).rstrip("/")) as visitor:
        yield visitor


def asked(served: Served) -> tuple[int, str]:
    answer = served.get(QUESTION, scope=Scope.OPERATE, method="POST")
    return answer.status_code, answer.text


def test_a_question_whose_lookup_does_not_return_is_answered_with_the_reason(served):
    status, text = asked(served)
    assert status == 503
    assert "The lookup of pim has not answered within 0 seconds" in text
    assert "each of its requests needs a timeout" in text


def test_a_question_without_a_turn_names_the_lookups_that_hold_the_turns_and_asks_nothing(served, operator, away):
    assert [asked(served)[0] for _ in range(2)] == [503, 503]
    answer = operator.press("/mirror/products/pim/e1/ask")
    assert answer.status_code == 503
    text = text_of(answer.text)
    assert "Nothing was asked, because 2 lookups at once may be under way, and others have not ended" in text
    assert "that of pim for" in text
    assert "each of its requests needs a timeout" in text

    away.set()
    wait_until(lambda: served.get("/api/v1/actions").json()["items"], "the record of a late answer")
    done = wait_until(lambda: (asked(served)[0] != 503) or None, "a turn")
    assert done


def test_a_late_answer_is_recorded_once_for_each_question(served, away):
    assert [asked(served)[0] for _ in range(2)] == [503, 503]
    assert asked(served)[0] == 503
    away.set()

    def recorded() -> list[str]:
        return [each["what"] for each in served.get("/api/v1/actions").json()["items"]]

    wait_until(lambda: len(recorded()) == 2, "the records of both")
    assert recorded() == ["ask", "ask"]
