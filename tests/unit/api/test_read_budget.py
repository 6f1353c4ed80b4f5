"""The CPU time that reads may use in a process that acks, measured by a clock that the tests move."""

from __future__ import annotations

from collections import Counter

import pytest

from receiver.api.read_budget import (
    BURST,
    LARGEST_SHARE,
    LONGEST_KEY_REST,
    MOST_SHARED,
    MUCH,
    NO_WEBHOOK_FOR,
    REQUEST_COST,
    SHARE,
    SHARE_ON_POSTGRESQL,
    ReadBudget,
)
from receiver.api.reads import LONGEST_WAIT

#: Seconds for which the readers read.
WHILE = 60.0


class Process:
    """A process with a clock, whose reads take turns."""

    def __init__(self, share: float) -> None:
        self.now = 1_000.0
        self.acking, self.utilisation = True, 1.0
        self.share = share
        self.budget = ReadBudget(
            is_busy=lambda: self.acking, utilisation=lambda: self.utilisation, share=share, clock=lambda: self.now
        )

    def read(self, key: str, cost: float) -> float:
        """Wait for the budget, read for this many seconds of CPU time, and return the seconds of waiting."""
        waited = 0.0
        # Compare within a millionth of a second, the precision of such a float.
        while (wait := self.budget.wait(key)) > 1e-6:
            waited += wait
            self.now += wait
        advance = self.budget.begin(key)
        self.now += cost
        self.budget.end(key, advance=advance, used=cost)
        return waited


@pytest.fixture(params=[SHARE, SHARE_ON_POSTGRESQL])
def process(request: pytest.FixtureRequest) -> Process:
    return Process(request.param)


@pytest.mark.parametrize("cost", [0.0005, 0.002, 0.01, MOST_SHARED - REQUEST_COST])
def test_greedy_reads_together_take_their_share_while_webhooks_are_acked(process: Process, cost: float) -> None:
    began, used = process.now, 0.0
    while process.now - began < WHILE:
        process.read("list", cost)
        used += cost + REQUEST_COST
    assert used <= WHILE * process.share + BURST + 2 * MOST_SHARED
    assert used >= WHILE * process.share * 0.8, "the share is theirs"


@pytest.mark.parametrize(("utilisation", "part"), [(0.0, 1.0), (MUCH / 2, 0.5), (MUCH, 0.0), (1.0, 0.0)])
def test_reads_get_the_more_the_less_of_the_time_webhooks_take(
    process: Process, utilisation: float, part: float
) -> None:
    process.utilisation = utilisation
    share = process.share + (LARGEST_SHARE - process.share) * part
    began, used = process.now, 0.0
    while process.now - began < WHILE:
        process.read("list", 0.01)
        used += 0.01 + REQUEST_COST
    assert used == pytest.approx(WHILE * share, abs=BURST + MOST_SHARED + WHILE * share * 0.02)
    assert process.budget.is_tight() == (part == 0.0)


def test_a_budget_without_webhooks_is_never_tight(process: Process) -> None:
    process.acking = False
    assert not process.budget.is_tight()


def test_reads_go_at_full_speed_when_no_webhook_comes(process: Process) -> None:
    process.acking = False
    assert [process.read("list", 0.5) for _ in range(20)] == [0.0] * 20


def test_reads_without_webhooks_are_not_charged_when_a_webhook_comes(process: Process) -> None:
    process.acking = False
    for _ in range(20):
        process.read("list", 0.5)
    process.budget.wait("list")
    process.acking = True
    assert process.budget.wait("another list") == 0.0


def test_a_waiting_read_continues_a_moment_after_the_webhooks_end(process: Process) -> None:
    process.read("list", 1.0)
    assert process.budget.wait("list") > 0
    process.acking = False
    process.budget.wait("list")
    process.now += 1.01 * NO_WEBHOOK_FOR
    assert process.budget.wait("list") == 0.0


def test_a_moment_without_webhooks_is_no_end_of_them(process: Process) -> None:
    """As when the event loop was held up."""
    process.read("list", 1.0)
    for _ in range(20):
        process.acking = not process.acking
        process.now += NO_WEBHOOK_FOR / 2
        assert process.budget.wait("list") > 0


def test_ten_people_who_open_a_page_after_a_pause_do_not_wait(process: Process) -> None:
    """Each of the ten pages needs six statements."""
    assert sum(process.read("page", 6 * 0.002) for _ in range(10)) == 0.0


def test_one_expensive_read_does_not_keep_the_cheap_ones_waiting_beyond_their_time(process: Process) -> None:
    for _ in range(20):
        process.read("list", 0.01)
    process.read("long list", 30.0)
    assert process.read("list", 0.001) <= MOST_SHARED / process.share + 1e-6 < LONGEST_WAIT


def test_an_expensive_read_may_be_repeated_after_a_bounded_wait(process: Process) -> None:
    process.read("long list", 30.0)
    waited = process.read("long list", 30.0)
    assert MOST_SHARED / process.share < waited <= LONGEST_KEY_REST + 1e-6 < LONGEST_WAIT


def test_reads_that_begin_together_pay_in_advance(process: Process) -> None:
    for _ in range(20):
        process.read("search", 0.03)
    begun = Counter[str]()
    while process.budget.wait("search") == 0.0:
        process.budget.begin("search")
        begun["search"] += 1
    assert begun["search"] <= 1 + BURST / 0.03, "as many as the budget covers, and not all that wait"
