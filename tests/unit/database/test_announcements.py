"""Announcements: notified soon, together, and again after an error."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs
from waiting import TIMEOUT, wait_until

from receiver.database import announcements as module
from receiver.database.announcements import Announcements


class Server:
    """Counts the notifications; its gate holds them up, and errors make them fail."""

    def __init__(self) -> None:
        self.began = self.told = 0
        self.gate = threading.Event()
        self.gate.set()
        self.errors: list[Exception] = []

    def notify(self) -> None:
        self.began += 1
        assert self.gate.wait(TIMEOUT)
        if self.errors:
            raise self.errors.pop()
        self.told += 1


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def announcements(server: Server) -> Iterator[Announcements]:
    made = Announcements(server.notify)
    yield made
    server.gate.set()
    made.stop()


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANNOUNCEMENT_STOP_TIMEOUT", TIMEOUT)


def test_announcements_during_a_notification_are_one_further_notification(announcements, server, monkeypatch):
    monkeypatch.setattr(module, "ANNOUNCEMENT_PAUSE", 0.0)
    server.gate.clear()
    announcements.announce()
    wait_until(lambda: server.began == 1, "the first")
    for _ in range(5):
        announcements.announce()
    server.gate.set()
    wait_until(lambda: server.told == 2, "the rest")
    announcements.stop()
    assert server.told == 2


def test_what_is_due_is_notified_before_the_end_without_the_pause_and_nothing_after_it(
    announcements, server, monkeypatch
):
    monkeypatch.setattr(module, "ANNOUNCEMENT_PAUSE", 2 * TIMEOUT)
    announcements.announce()
    wait_until(lambda: server.told == 1, "the first")
    announcements.announce()
    announcements.stop()
    announcements.announce()
    assert server.told == 2
    assert not announcements._is_running()


def test_the_end_does_not_wait_for_a_notification_that_hangs(announcements, server, monkeypatch):
    monkeypatch.setattr(module, "ANNOUNCEMENT_STOP_TIMEOUT", 0.01)
    server.gate.clear()
    announcements.announce()
    announcements.stop()
    assert announcements._is_running()


def test_after_an_error_the_next_notification_waits_so_that_the_server_is_not_asked_after_each_commit(
    announcements, server, monkeypatch
):
    monkeypatch.setattr(module, "ANNOUNCEMENT_ERROR_PAUSE", 2 * TIMEOUT)
    server.errors.append(OSError("no connection is left"))
    with capture_logs() as logs:
        announcements.announce()
        wait_until(lambda: logs, "the line of the log")
    for _ in range(5):
        announcements.announce()
    assert (server.began, announcements._is_running()) == (1, True)
    assert [each["error"] for each in logs] == ["no connection is left"]


def test_after_the_pause_that_follows_an_error_what_is_due_is_notified(announcements, server, monkeypatch):
    monkeypatch.setattr(module, "ANNOUNCEMENT_ERROR_PAUSE", 0.01)
    server.errors.append(OSError("the connection is lost"))
    announcements.announce()
    wait_until(lambda: server.began == 1, "the first")
    announcements.announce()
    wait_until(lambda: server.told, "the second")


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
def test_a_thread_that_cannot_be_started_is_no_error_of_the_caller_and_is_tried_again(
    announcements, server, error, monkeypatch
):
    def fail(_: threading.Thread) -> None:
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(threading.Thread, "start", fail)
        announcements.announce()
    assert server.began == 0
    announcements.announce()
    announcements.stop()
    assert server.told == 1


def test_without_an_announcement_there_is_nothing_to_end(announcements, server):
    announcements.stop()
    assert server.began == 0


def test_an_announcement_takes_a_connection_of_the_pool(postgres):
    postgres.announce()
    wait_until(lambda: postgres.engine.pool.checkedin() == 1, "the announcement")
