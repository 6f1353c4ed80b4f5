"""The share of the time in which a webhook waits, measured by a clock that the tests move."""

from __future__ import annotations

import pytest

from receiver.ingest.utilisation import MEASURED_OVER, Utilisation


class Process:
    """A process with a clock."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.utilisation = Utilisation(clock=lambda: self.now)

    def answer(self, *, seconds: float, pause: float) -> None:
        """Let a webhook wait for this long, and then none."""
        self.utilisation.begin()
        self.now += seconds
        self.utilisation.end()
        self.now += pause


@pytest.fixture
def process() -> Process:
    return Process()


def test_without_webhooks_the_share_is_zero(process: Process) -> None:
    process.now += 10 * MEASURED_OVER
    assert process.utilisation.share() == 0.0


def test_the_share_is_that_of_the_time_with_a_waiting_webhook(process: Process) -> None:
    for _ in range(200):
        process.answer(seconds=0.001, pause=0.009)
    assert process.utilisation.share() == pytest.approx(0.1, rel=0.1)


def test_webhooks_that_wait_all_the_time_take_all_of_it(process: Process) -> None:
    for _ in range(200):
        process.answer(seconds=0.01, pause=0.0)
    assert process.utilisation.share() == pytest.approx(1.0)


def test_a_webhook_that_still_waits_counts(process: Process) -> None:
    process.utilisation.begin()
    process.now += MEASURED_OVER
    assert process.utilisation.share() == 1.0


def test_a_second_webhook_that_begins_to_wait_changes_nothing(process: Process) -> None:
    process.utilisation.begin()
    process.now += MEASURED_OVER
    process.utilisation.begin()
    assert process.utilisation.share() == 1.0


def test_a_quiet_hour_does_not_hide_the_load_that_follows_it(process: Process) -> None:
    process.now += 3_600
    for _ in range(60):
        process.answer(seconds=0.01, pause=0.0)
    assert process.utilisation.share() == pytest.approx(1.0)


def test_the_share_falls_soon_after_the_last_webhook(process: Process) -> None:
    for _ in range(200):
        process.answer(seconds=0.01, pause=0.0)
    process.now += MEASURED_OVER
    process.utilisation.share()
    process.now += MEASURED_OVER
    assert process.utilisation.share() == 0.0
