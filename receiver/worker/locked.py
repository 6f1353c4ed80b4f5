"""Locked attempts: those that cannot be settled, because another session of PostgreSQL holds a lock that they need.

They stay claimed and are settled later, without counting as failed. A claim leaves out every entity of which a delivery
is claimed, so no later event of their entities is applied before them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import structlog
from msgspec import Struct

from receiver.database.errors import explain_lock, locked_table
from receiver.inbox.inbox import Inbox
from receiver.inbox.results import WAITS_FOR_LOCK
from receiver.logs.repeats import Repeats
from receiver.moments import has_passed
from receiver.worker.attempt import Attempt

log = structlog.get_logger(__name__)

#: The pause before a locked attempt is settled again, doubled after each time up to the longest.
FIRST_LOCKED_PAUSE, LONGEST_LOCKED_PAUSE = timedelta(seconds=1), timedelta(seconds=10)

#: The most attempts that are settled again in one pass, so that waiting for their locks delays the others briefly.
TRIED_AT_ONCE = 10

#: The most locked attempts of a worker, and the most bytes of their bodies.
MOST_LOCKED, MOST_LOCKED_BYTES = 500, 16 << 20

#: The time for which no delivery of a source is claimed, once there is no room for another locked attempt of it.
SOURCE_REST = timedelta(seconds=5)

#: Seconds that a settlement waits for a lock while attempts are locked: further ones are likely to be locked, too.
WARY_SECONDS = 0.5


class _Locked(Struct):
    """One locked attempt."""

    attempt: Attempt
    #: Bytes of its body.
    size: int
    tried_at: datetime
    pause: timedelta = FIRST_LOCKED_PAUSE


class LockedAttempts:
    """The locked attempts of one worker. Not thread-safe."""

    def __init__(self, inbox: Inbox, worker: str, *, clock: Callable[[], datetime]) -> None:
        self._inbox, self._worker, self._clock = inbox, worker, clock
        #: By the ids of their deliveries, the first of each entity.
        self._locked: dict[int, _Locked] = {}
        #: The sources without room for another one, each with the time at which that was found.
        self._resting: dict[str, datetime] = {}
        #: The deliveries that could not be returned to the inbox, because their own rows are locked.
        self._returning: list[int] = []
        self._repeats = Repeats(log)

    @property
    def ids(self) -> list[int]:
        """The deliveries that stay claimed."""
        return [*self._locked, *self._returning]

    @property
    def lock_seconds(self) -> float | None:
        """The seconds for which the next settlement waits for a lock; None for the limit of its session."""
        return WARY_SECONDS if self._locked else None

    def due(self) -> list[Attempt]:
        """Some of those whose pause has passed, ready to be handled again, in order."""
        if self._returning:
            self.put_back([])
        if not self._locked:
            return []
        now = self._clock()
        due = [each for each in self._locked.values() if has_passed(each.tried_at, each.pause, now)]
        chosen = sorted(due, key=lambda each: each.tried_at)[:TRIED_AT_ONCE]
        for each in chosen:
            each.attempt.begin_again()
        return sorted((each.attempt for each in chosen), key=lambda attempt: attempt.delivery.id)

    def resting(self) -> set[str]:
        """The sources of which no delivery must be claimed now."""
        if not self._resting:
            return set()
        now = self._clock()
        self._resting = {
            name: since for name, since in self._resting.items() if not has_passed(since, SOURCE_REST, now)
        }
        return set(self._resting)

    def without_followers(self, attempts: Sequence[Attempt]) -> Sequence[Attempt]:
        """Return to the inbox those that follow a locked attempt of their entity, and return the others.

        If there was no room for a locked attempt of their source, they may follow that one.
        """
        if not self._locked and not self._resting:
            return attempts
        first = {each.attempt.entity_of_source: each.attempt.delivery.id for each in self._locked.values()}
        first.pop(None, None)
        resting = self.resting()

        def follows(attempt: Attempt) -> bool:
            number = attempt.delivery.id
            is_of_resting = attempt.delivery.source in resting and number not in self._locked
            return is_of_resting or first.get(attempt.entity_of_source, number) != number

        self.put_back([each for each in attempts if follows(each)])
        return [each for each in attempts if not follows(each)]

    def keep(self, settled: Sequence[Attempt], errors: Mapping[int, Exception]) -> None:
        """Keep those of these attempts that are locked; `errors` are the database's errors by their deliveries' ids.

        Those that follow another one of their entity return to the inbox, as do those for which there is no room.
        """
        if not errors and not self._locked:
            return
        for attempt in settled:
            if attempt.delivery.id not in errors:
                self._locked.pop(attempt.delivery.id, None)
        locked: Sequence[Attempt] = [attempt for attempt in settled if attempt.delivery.id in errors]
        noted: dict[str, list[int]] = defaultdict(list)
        while locked := self.without_followers(locked):
            first, *locked = locked
            error = errors[first.delivery.id]
            if self._keep(first, locked_table(error)):
                noted[f"{explain_lock(error)} {WAITS_FOR_LOCK}"].append(first.delivery.id)
        for reason, ids in noted.items():
            self._inbox.note(self._worker, ids, reason)

    def forget(self) -> None:
        """Forget all, because their deliveries return to the inbox."""
        self._locked.clear()
        self._returning.clear()

    def _keep(self, attempt: Attempt, table: str) -> bool:
        """Keep a locked attempt, or return it to the inbox if there is no room. Returns whether it is a new one."""
        now, known = self._clock(), self._locked.get(attempt.delivery.id)
        if known is not None:
            known.tried_at, known.pause = now, min(known.pause * 2, LONGEST_LOCKED_PAUSE)
            return False
        about = {"source": attempt.delivery.source, "table": table}
        self._repeats.warning(_LOCKED, about=about, delivery=attempt.delivery.id)
        size = len(attempt.delivery.plain or b"")
        if len(self._locked) >= MOST_LOCKED or size + sum(e.size for e in self._locked.values()) > MOST_LOCKED_BYTES:
            self._resting[attempt.delivery.source] = now
            self.put_back([attempt])
            return False
        attempt.delivery.plain = None
        self._locked[attempt.delivery.id] = _Locked(attempt, size, now)
        return True

    def put_back(self, attempts: Sequence[Attempt]) -> None:
        """Return these deliveries to the inbox: a delivery whose own row is locked in a later pass."""
        returning = [*self._returning, *(attempt.delivery.id for attempt in attempts)]
        if returning:
            self._returning = self._inbox.put_back(self._worker, returning)
        for attempt in attempts:
            attempt.forget()


#: The line of the log for the first of several.
_LOCKED = "another session of the database holds a lock, and deliveries wait for it"
