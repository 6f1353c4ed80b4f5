"""What reads may use of a process that acks, by a clock that only the tests move."""

from __future__ import annotations

from collections import Counter

import pytest

from receiver.api.read_budget import BURST, LONGEST_KEY_REST, MOST_SHARED, REQUEST_COST, SHARE, ReadBudget
from receiver.api.reads import LONGEST_WAIT

#: Seconds in which readers read.
WHILE = 60.0


class Process:
    """A process whose reads take turns, one at a time, and its clock."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.acking = True
        self.budget = ReadBudget(is_busy=lambda: self.acking, clock=lambda: self.now)

    def read(self, key: str, cost: float) -> float:
        """Read as soon as that may be, for so many seconds of CPU time. Returns the seconds that it waited."""
        waited = 0.0
        # Within a millionth, because a float of seconds has no more digits.
        while (wait := self.budget.wait(key)) > 1e-6:
            waited += wait
            self.now += wait
        advance = self.budget.begin(key)
        self.now += cost
        self.budget.end(key, advance=advance, used=cost)
        return waited


@pytest.fixture
def process() -> Process:
    return Process()


@pytest.mark.parametrize("cost", [0.0005, 0.002, 0.01, MOST_SHARED - REQUEST_COST])
def test_greedy_reads_together_take_their_share_while_webhooks_are_acked(process: Process, cost: float) -> None:
    began, used = process.now, 0.0
    while process.now - began < WHILE:
        process.read("list", cost)
        used += cost + REQUEST_COST
    assert used <= WHILE * SHARE + BURST + 2 * MOST_SHARED
    assert used >= WHILE * SHARE * 0.8, "the share is theirs"


def test_reads_go_at_full_speed_when_no_webhook_comes(process: Process) -> None:
    process.acking = False
    assert [process.read("list", 0.5) for _ in range(20)] == [0.0] * 20


def test_what_reads_used_while_no_webhook_came_is_not_charged_when_one_comes(process: Process) -> None:
    process.acking = False
    for _ in range(20):
        process.read("list", 0.5)
    process.budget.wait("list")
    process.acking = True
    assert process.budget.wait("another list") == 0.0


def test_who_waits_goes_on_as_soon_as_the_webhooks_end(process: Process) -> None:
    process.read("list", 1.0)
    assert process.budget.wait("list") > 0
    process.acking = False
    assert process.budget.wait("list") == 0.0


def test_a_few_people_who_open_a_page_after_a_pause_wait_for_nothing(process: Process) -> None:
    """Ten people with a page of six statements."""
    assert sum(process.read("page", 6 * 0.002) for _ in range(10)) == 0.0


def test_one_expensive_read_does_not_keep_the_cheap_ones_waiting_beyond_their_time(process: Process) -> None:
    for _ in range(20):
        process.read("list", 0.01)
    process.read("long list", 30.0)
    assert process.read("list", 0.001) <= MOST_SHARED / SHARE + 1e-6 < LONGEST_WAIT


def test_an_expensive_read_is_not_repeated_at_once_nor_refused_for_ever(process: Process) -> None:
    process.read("long list", 30.0)
    waited = process.read("long list", 30.0)
    assert MOST_SHARED / SHARE < waited <= LONGEST_KEY_REST + 1e-6 < LONGEST_WAIT


def test_reads_that_begin_together_pay_in_advance(process: Process) -> None:
    for _ in range(20):
        process.read("search", 0.03)
    begun = Counter[str]()
    while process.budget.wait("search") == 0.0:
        process.budget.begin("search")
        begun["search"] += 1
    assert begun["search"] <= 1 + BURST / 0.03, "as many as the budget covers, and not all that wait"
