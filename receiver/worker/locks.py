"""Locks of other sessions of PostgreSQL: a delivery that needs one waits in the inbox, and has not failed."""

from __future__ import annotations

from collections import defaultdict
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

    @property
    def lock_seconds(self) -> float | None:
        """The seconds for which a settlement or read now waits for a lock; None for the limit of its session."""
        if self._met_at is None or has_passed(self._met_at, WARY_FOR, self._clock()):
            return None
        return WARY_SECONDS

    def resting(self) -> set[str]:
        """The sources of which no delivery must be claimed now."""
        if self._resting:
            now = self._clock()
            self._resting = {
                name: since for name, since in self._resting.items() if not has_passed(since, SOURCE_REST, now)
            }
        return set(self._resting)

    def postpone(self, met: Sequence[tuple[Attempt, Exception]], *, are_many: bool) -> None:
        """Return these deliveries to the inbox, due after one pause, each with the database's error about its lock.

        Their attempts do not count. One whose own row is locked stays claimed until its lease ends. If they are many,
        their sources rest, so that other sources get their turn.
        """
        now = self._met_at = self._clock()
        due_at = now + SHORTEST_LOCKED_PAUSE + (LONGEST_LOCKED_PAUSE - SHORTEST_LOCKED_PAUSE) * self._jitter()
        by_lock: dict[str, list[int]] = defaultdict(list)
        for attempt, error in met:
            delivery = attempt.delivery
            by_lock[explain_lock(error)].append(delivery.id)
            about = {"source": delivery.source, "table": locked_table(error)}
            self._repeats.warning(MET_LOCK, about=about, delivery=delivery.id)
        for lock, ids in by_lock.items():
            self._inbox.postpone(self._worker, ids, lock, now=now, due_at=due_at)
        if are_many:
            self._resting |= dict.fromkeys((attempt.delivery.source for attempt, _ in met), now)
