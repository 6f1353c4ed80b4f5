"""Announcements: notified soon, together, and by another thread after an error."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any, Self

import pytest
from waiting import TIMEOUT, wait_until

from receiver.database.announcements import Announcements


class Session:
    """A session that keeps what it notified; the gate holds a notification up."""

    def __init__(self, told: list[str], gate: threading.Event, errors: list[Exception]) -> None:
        self._told, self._gate, self._errors = told, gate, errors

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._told.append("closed")

    def execute(self, _statement: str) -> None:
        assert self._gate.wait(TIMEOUT)
        if self._errors:
            raise self._errors.pop()
        self._told.append("accepted")


@pytest.fixture
def gate() -> threading.Event:
    opened = threading.Event()
    opened.set()
    return opened


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def errors() -> list[Exception]:
    return []


@pytest.fixture
def announcements(told: list[str], gate: threading.Event, errors: list[Exception]) -> Announcements:
    open_session: Any = lambda: Session(told, gate, errors)  # noqa: E731 (a session of another class)
    return Announcements(open_session)


def test_announcements_during_a_notification_are_one_further_notification(announcements, told, gate):
    gate.clear()
    announcements.announce()
    wait_until(lambda: not announcements._is_due, "the first to be taken")
    for _ in range(5):
        announcements.announce()
    gate.set()
    wait_until(lambda: len(told) == 2, "the rest")
    announcements.stop()
    assert told == ["accepted", "accepted", "closed"]


def test_what_is_due_is_notified_before_the_end_and_a_later_announcement_begins_anew(announcements, told):
    for _ in range(2):
        announcements.announce()
        announcements.stop()
    assert told == ["accepted", "closed"] * 2


def test_after_an_error_the_next_announcement_opens_another_session(announcements, told, errors):
    errors.append(OSError("the session is lost"))
    announcements.announce()
    wait_until(lambda: announcements._thread is None, "the end of the thread")
    announcements.announce()
    announcements.stop()
    assert told == ["closed", "accepted", "closed"]


def test_a_thread_that_cannot_be_started_is_no_error_of_the_caller_and_is_tried_again(announcements, told, monkeypatch):
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as broken:
        broken.setattr(threading.Thread, "start", fail)
        announcements.announce()
    assert told == []
    announcements.announce()
    announcements.stop()
    assert told == ["accepted", "closed"]


def test_without_an_announcement_there_is_nothing_to_end(announcements, told):
    announcements.stop()
    assert told == []
