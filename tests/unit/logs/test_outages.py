"""Outages: the first error is logged, then one a minute with the number so far, and the end."""

from __future__ import annotations

from types import SimpleNamespace

import structlog
from structlog.testing import capture_logs

from receiver.logs.outages import BETWEEN_ENDS, BETWEEN_ERRORS, Outage


def outage_at(now: list[float]) -> Outage:
    return Outage(structlog.get_logger(), "it fails", "it works again", clock=lambda: now[0])


def test_an_hour_of_errors_is_a_line_a_minute_with_their_number_and_a_line_about_the_end():
    now = [0.0]
    with capture_logs() as lines:
        outage = outage_at(now)
        for second in range(3_600):
            now[0] = float(second)
            outage.failed(error="away")
        now[0] = 3_600.0
        outage.worked()
    assert lines[0] == {"event": "it fails", "log_level": "error", "error": "away"}
    assert lines[1] == {"event": "it fails", "log_level": "error", "error": "away", "errors": 61, "seconds": 60}
    assert lines[-1] == {"event": "it works again", "log_level": "info", "errors": 3_600, "seconds": 3_600}
    assert len(lines) == 3_600 / BETWEEN_ERRORS + 1


def test_an_error_of_another_kind_is_logged_at_once_and_two_kinds_in_turns_are_not():
    with capture_logs() as lines:
        outage = outage_at([0.0])
        for kind in ("OperationalError", "TimeoutError") * 100:
            outage.failed(kind, error=kind)
    assert [line["error"] for line in lines] == ["OperationalError", "TimeoutError"]


def test_without_an_error_nothing_is_logged():
    with capture_logs() as lines:
        outage_at([0.0]).worked()
    assert lines == []


def test_what_fails_and_works_in_turns_is_logged_a_few_times():
    now = [0.0]
    with capture_logs() as lines:
        outage = outage_at(now)
        for number in range(1_000):
            now[0] = number * BETWEEN_ENDS / 1_000
            outage.failed(error="away")
            outage.worked()
        now[0] = BETWEEN_ENDS
        outage.worked()
    assert [line["event"] for line in lines] == ["it fails", "it works again"] * 2
    assert lines[-1]["errors"] == 999


def test_a_line_for_which_there_is_no_memory_stops_nothing():
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    outage = Outage(SimpleNamespace(error=fail, info=fail), "it fails", "it works again")
    outage.failed()
    outage.worked()
