"""What a worker remembers of the locks that it has met: for a moment, that there are some, and which sources rest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from receiver.inbox.leases import Claimed
from receiver.inbox.locked import LONGEST_LOCKED_PAUSE, SHORTEST_LOCKED_PAUSE, locked_reason, read_locked_reason
from receiver.worker.attempt import Attempt
from receiver.worker.locks import LIKELY_ALL, SOURCE_REST, WARY_FOR, WARY_SECONDS, Locks

NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)

LOCK = "Another session of the database holds a lock. End it."


class NotedInbox:
    """An inbox that notes until when deliveries are postponed."""

    def __init__(self) -> None:
        self.postponed: list[tuple[list[int], datetime]] = []

    def postpone(self, worker: str, ids: list[int], lock: str, *, now: datetime, due_at: datetime) -> None:
        self.postponed.append((ids, due_at))


class Clock:
    now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def attempt(number: int) -> Attempt:
    return Attempt(Claimed(number, "shop", 1, 1, NOON, b"{}", None, None, None))


def new_locks(clock: Clock, *, jitter: float = 0.0) -> tuple[Locks, NotedInbox]:
    inbox = NotedInbox()
    return Locks(inbox, "worker", clock=clock, jitter=lambda: jitter), inbox


@pytest.mark.parametrize(("jitter", "pause"), [(0.0, SHORTEST_LOCKED_PAUSE), (1.0, LONGEST_LOCKED_PAUSE)])
def test_deliveries_that_meet_one_lock_are_due_together_after_one_pause(clock, jitter, pause):
    locks, inbox = new_locks(clock, jitter=jitter)
    locks.postpone([(attempt(1), RuntimeError()), (attempt(2), RuntimeError())])
    assert inbox.postponed == [([1, 2], NOON + pause)]


def test_deliveries_that_meet_locks_later_in_a_pass_are_due_with_the_first(clock):
    locks, inbox = new_locks(clock)
    locks.postpone([(attempt(1), RuntimeError())])
    clock.now += timedelta(seconds=2)
    locks.postpone([(attempt(2), RuntimeError())])
    locks.begin_pass()
    locks.postpone([(attempt(3), RuntimeError())])
    first = NOON + SHORTEST_LOCKED_PAUSE
    assert inbox.postponed == [([1], first), ([2], first), ([3], first + timedelta(seconds=2))]


def test_a_batch_waits_briefly_for_a_while_after_a_lock_was_met(clock):
    locks, _ = new_locks(clock)
    assert locks.lock_seconds is None
    locks.postpone([(attempt(1), RuntimeError())])
    assert locks.lock_seconds == WARY_SECONDS
    clock.now += WARY_FOR
    assert locks.lock_seconds is None


@pytest.mark.parametrize("passed", [SOURCE_REST, -timedelta(hours=1)], ids=["after the rest", "clock set back"])
def test_a_source_with_many_locked_deliveries_rests_for_a_moment(clock, passed):
    locks, _ = new_locks(clock)
    locked = [(attempt(number), RuntimeError()) for number in range(LIKELY_ALL)]
    for each, error in locked[1:]:
        locks.note(each, error)
    locks.postpone(locked[1:])
    assert locks.resting() == set()
    locks.note(*locked[0])
    locks.postpone(locked[:1])
    assert locks.resting() == {"shop"}
    clock.now += passed
    assert locks.resting() == set()


def test_the_reason_of_a_locked_delivery_says_for_what_it_waits_and_since_when():
    assert read_locked_reason(locked_reason(LOCK, NOON)) == (LOCK, NOON)


@pytest.mark.parametrize("reason", [LOCK, locked_reason(LOCK, NOON).replace("03-05", "02-30")])
def test_another_reason_says_nothing_of_a_lock(reason):
    assert read_locked_reason(reason) is None
