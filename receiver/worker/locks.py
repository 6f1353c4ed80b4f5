"""Locks of other sessions of PostgreSQL: a delivery that needs one waits in the inbox, and has not failed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import structlog

from receiver.database.errors import explain_lock, locked_table
from receiver.inbox.inbox import Inbox
from receiver.inbox.locked import LONGEST_LOCKED_PAUSE, SHORTEST_LOCKED_PAUSE
from receiver.logs.repeats import Repeats
from receiver.moments import has_passed
from receiver.worker.attempt import Attempt

log = structlog.get_logger(__name__)

#: Seconds that a settlement or read waits for a lock after one was met, since others are likely to meet it, too; and
#: the time for which that limit holds.
WARY_SECONDS, WARY_FOR = 0.5, timedelta(seconds=30)

#: The time for which no delivery of a source is claimed after many of its deliveries met locks.
SOURCE_REST = timedelta(seconds=3)

#: The number of entities that met locks in one pass at which a lock of a whole table is likely.
LIKELY_ALL = 10

#: The line of the log for the first of several deliveries.
MET_LOCK = "another session of the database holds a lock, and deliveries wait for it"


class Locks:
    """The locks that the deliveries of one worker have met. Not thread-safe."""

    def __init__(
        self, inbox: Inbox, worker: str, *, clock: Callable[[], datetime], jitter: Callable[[], float]
    ) -> None:
        self._inbox, self._worker = inbox, worker
        self._clock, self._jitter = clock, jitter
        #: The time at which a delivery last met one; None before.
        self._met_at: datetime | None = None
        #: The sources that rest, each with the beginning of its rest.
        self._resting: dict[str, datetime] = {}
        self._repeats = Repeats(log)
        self.begin_pass()

    def begin_pass(self) -> None:
        """Begin a pass of the worker."""
        #: The database's error about the lock, by the entity that needs it or the id of a delivery without one.
        self._met: dict[object, Exception] = {}
        self._met_of: Counter[str] = Counter()
        #: The time at which all deliveries that meet locks in this pass are due again, so that they keep their order.
        self._due_at: datetime | None = None

    @property
    def lock_seconds(self) -> float | None:
        """The seconds for which a settlement or read now waits for a lock; None for the limit of its session."""
        if self._met_at is None or has_passed(self._met_at, WARY_FOR, self._clock()):
            return None
        return WARY_SECONDS

    @property
    def has_met(self) -> bool:
        """Whether a delivery has met a lock in this pass."""
        return bool(self._met)

    @property
    def are_many(self) -> bool:
        """Whether so many have met locks in this pass that a lock of a whole table is likely."""
        return len(self._met) >= LIKELY_ALL

    def met_before(self, attempt: Attempt) -> Exception | None:
        """The error of the attempt, or of an earlier one of its entity in this pass; None without one."""
        return attempt.lock or self._met.get(attempt.entity_of_source)

    def note(self, attempt: Attempt, error: Exception) -> None:
        """Remember until the end of the pass that the attempt's entity needs a lock."""
        key = attempt.entity_of_source or attempt.delivery.id
        if key not in self._met:
            self._met_of[attempt.delivery.source] += 1
        self._met[key] = error

    def resting(self) -> set[str]:
        """The sources of which no delivery must be claimed now."""
        if self._resting:
            now = self._clock()
            self._resting = {
                name: since for name, since in self._resting.items() if not has_passed(since, SOURCE_REST, now)
            }
        return set(self._resting)

    def postpone(self, locked: Sequence[tuple[Attempt, Exception]]) -> None:
        """Return these deliveries to the inbox, due after one pause, each with the database's error about its lock.

        Their attempts do not count. One whose own row is locked stays claimed until its lease ends. A source of which
        many met locks in this pass rests, so that other sources get their turn.
        """
        now = self._met_at = self._clock()
        if self._due_at is None:
            spread = LONGEST_LOCKED_PAUSE - SHORTEST_LOCKED_PAUSE
            self._due_at = now + SHORTEST_LOCKED_PAUSE + spread * self._jitter()
        by_lock: dict[str, list[int]] = defaultdict(list)
        for attempt, error in locked:
            delivery = attempt.delivery
            by_lock[explain_lock(error)].append(delivery.id)
            about = {"source": delivery.source, "table": locked_table(error)}
            self._repeats.warning(MET_LOCK, about=about, delivery=delivery.id)
        for lock, ids in by_lock.items():
            self._inbox.postpone(self._worker, ids, lock, now=now, due_at=self._due_at)
        self._resting |= dict.fromkeys((name for name, number in self._met_of.items() if number >= LIKELY_ALL), now)
