"""The leases of a worker on what it has claimed: extends them, and returns what the worker does not finish."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError

from receiver.inbox.inbox import Inbox
from receiver.logs.safe_text import told
from receiver.moments import has_passed
from receiver.worker.attempt import Attempt

log = structlog.get_logger(__name__)


class WorkerLeases:
    """The leases of one worker on the deliveries that it has claimed and not settled."""

    def __init__(
        self,
        inbox: Inbox,
        worker: str,
        held: Callable[[], Iterable[Attempt]],
        *,
        lease: timedelta,
        clock: Callable[[], datetime],
    ) -> None:
        """`held` returns the attempts of these deliveries."""
        self._inbox, self._worker, self._held = inbox, worker, held
        self._lease, self._extend_after = lease, lease / 3
        self._clock = clock
        self._extended_at = clock()
        #: Whether deliveries could not be returned.
        self.owes = False

    def begin(self, now: datetime) -> None:
        """Note that every lease is as long as that of a claim at this time."""
        self._extended_at = now

    def extend(self) -> None:
        """Extend the leases if it is time; most calls do nothing."""
        now = self._clock()
        if has_passed(self._extended_at, self._extend_after, now):
            held = sorted({attempt.delivery.id for attempt in self._held()})
            self._inbox.extend(self._worker, held, until=now + self._lease)
            self._extended_at = now

    def put_back(self, attempts: Sequence[Attempt]) -> None:
        """Return these deliveries to the inbox, as if they had not been claimed."""
        if attempts:
            self._inbox.put_back(self._worker, [attempt.delivery.id for attempt in attempts])
        for attempt in attempts:
            attempt.forget()

    def give_back(self, *, excluding: Iterable[Attempt], put_aside: timedelta | None = None) -> None:
        """Return all deliveries without their attempts, but for some. If the database fails, `owes` says so."""
        begun = [attempt.delivery.id for attempt in excluding]
        aside_until = None if put_aside is None else self._clock() + put_aside
        try:
            self._inbox.release(self._worker, excluding=begun, aside_until=aside_until)
            self.owes = False
        except SQLAlchemyError as error:
            if not self.owes:
                log.error("cannot return claimed deliveries; trying again until their lease ends", error=told(error))
            self.owes = True
