"""Log lines that strangers can repeat: the first is written, and the others are summed up."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import structlog
from structlog.testing import capture_logs
from waiting import wait_until

from receiver.logs.rates import FIRST_WHILE
from receiver.logs.repeats import Repeats


def own(logs):
    """Return the lines of these tests, because the timer of another test may still write its sum."""
    return [line for line in logs if line["event"].startswith(("refused", "it failed"))]


def test_a_thousand_similar_lines_become_one_line_and_one_sum():
    now = [0.0]
    with capture_logs() as logs:
        repeats = Repeats(structlog.get_logger(), clock=lambda: now[0])
        for number in range(1_000):
            repeats.warning("refused", about={"code": "unknown_source"}, source=f"x{number}")
        now[0] = FIRST_WHILE
        wait_until(lambda: len(own(logs)) == 2, "the timer's sum")
    first, summed = own(logs)
    assert first == {"event": "refused", "log_level": "warning", "code": "unknown_source", "source": "x0"}
    assert summed["event"] == "refused: more of the same"
    assert (summed["code"], summed["lines"]) == ("unknown_source", 999)
    assert "source" not in summed


def test_lines_about_different_things_are_different_kinds():
    with capture_logs() as logs:
        repeats = Repeats(structlog.get_logger(), clock=lambda: 0.0)
        for code in ("a", "b", "a", "b"):
            repeats.warning("refused", about={"code": code})
    assert [line["code"] for line in own(logs)] == ["a", "b"]


def test_an_exception_is_written_with_its_traceback_once():
    with capture_logs() as logs:
        repeats = Repeats(structlog.get_logger(), clock=lambda: 0.0)
        for _ in range(3):
            try:
                raise ValueError("nonsense")
            except ValueError:
                repeats.exception("it failed", about={"source": "shop"})
    assert [line["event"] for line in own(logs)] == ["it failed"]
    assert own(logs)[0]["exception"].endswith("ValueError: nonsense\n")


def test_without_held_back_lines_no_timer_runs():
    with capture_logs():
        repeats = Repeats(structlog.get_logger())
        repeats.warning("refused", about={})
    assert repeats._timer is None


def test_lines_of_many_threads_are_all_counted():
    now = [0.0]
    with capture_logs() as logs:
        repeats = Repeats(structlog.get_logger(), clock=lambda: now[0])
        threads = [
            threading.Thread(target=lambda: [repeats.warning("refused", about={}) for _ in range(200)])
            for _ in range(5)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        now[0] = 1.0
        repeats.sum_up()
    assert [line.get("lines") for line in own(logs)] == [None, 999]


def test_if_no_thread_can_be_started_the_line_is_written_and_a_later_timer_writes_the_sum(monkeypatch):
    def refuse(timer):
        raise RuntimeError("can't start new thread")

    now = [0.0]
    with capture_logs() as logs:
        repeats = Repeats(structlog.get_logger(), clock=lambda: now[0])
        with monkeypatch.context() as patch:
            patch.setattr(threading.Timer, "start", refuse)
            for _ in range(3):
                repeats.warning("refused", about={})
        now[0] = 1.0
        repeats.sum_up()
    assert [line.get("lines") for line in own(logs)] == [None, 2]


def test_a_line_for_which_there_is_no_memory_is_lost_and_stops_nothing():
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    repeats = Repeats(SimpleNamespace(warning=fail, error=fail))
    repeats.warning("refused", about={"code": "a"})
    repeats.exception("it failed", about={"code": "a"})
