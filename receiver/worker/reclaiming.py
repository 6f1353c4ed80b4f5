"""Reclaims the deliveries of dead workers, and those that were dated or leased ahead before the clock was set back."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from receiver.inbox import due
from receiver.inbox.inbox import Inbox
from receiver.inbox.reclaim import LostAttempt
from receiver.inbox.tables import State
from receiver.logs.repeats import Repeats
from receiver.metrics import metrics
from receiver.moments import has_passed
from receiver.worker import liveness
from receiver.worker.processes import running_beside

log = structlog.get_logger(__name__)

#: For lines that a sender may cause with each webhook.
_repeated = Repeats(log)

#: Polls for dead workers per lease.
LOOKS_PER_LEASE = 10


class Reclaiming:
    """Reclaims the deliveries of dead workers, between two passes of a worker."""

    def __init__(self, inbox: Inbox, *, lease: timedelta, max_attempts: int) -> None:
        self._inbox = inbox
        self._lease, self._max_attempts = lease, max_attempts
        self._looked_at: datetime | None = None
        #: The time at the last call; None before the first.
        self._called_at: datetime | None = None

    def look(self, now: datetime) -> None:
        """Reclaim deliveries if it is time; most calls do nothing, because the last one was a moment ago."""
        if self._called_at is None or now < self._called_at:
            self._undate(now)
        self._called_at = now
        if self._looked_at is not None and not has_passed(self._looked_at, self._lease / LOOKS_PER_LEASE, now):
            return
        self._looked_at = now
        self._shorten_leases(now)
        dead = liveness.dead(self._inbox.workers())
        pause = self._lease / 4
        lost = self._inbox.reclaim(now=now, dead=dead, max_attempts=self._max_attempts, pause=pause)
        if lost:
            log.warning("reclaimed the deliveries of a dead worker", deliveries=len(lost))
        for each in lost:
            _count(each, now)

    def _shorten_leases(self, now: datetime) -> None:
        with self._inbox.database.read() as connection:
            ahead = due.leased_ahead(connection, now=now, lease=self._lease)
            # The lease of a process that runs beside this one may be longer by its settings.
            beside = running_beside(connection, now) if ahead else []
        vanished = [each for each in ahead if not any(liveness.are_of_one_process(each, name) for name in beside)]
        shortened = self._inbox.shorten_leases(vanished, now=now, lease=self._lease) if vanished else 0
        if shortened:
            log.warning("the clock was set back: leases from before it end sooner", deliveries=shortened)

    def _undate(self, now: datetime) -> None:
        """Make deliveries due that arrived before the clock was set back, now or before this process began."""
        made_due = self._inbox.make_due(now=now, lease=self._lease)
        if made_due:
            log.warning("the clock was set back: deliveries that would have waited for it are due", deliveries=made_due)
        retried = due.bring_retries_forward(self._inbox.database, now=now, lease=self._lease)
        if retried:
            log.warning("the clock was set back: retries from before it come sooner", deliveries=retried)


def _count(lost: LostAttempt, now: datetime) -> None:
    """Count an attempt that its worker never ended, as a worker counts those that it ends.

    A delivery that was claimed among others does not count as failed: another one may have ended the worker.
    """
    if lost.was_alone:
        metrics.FAILED_ATTEMPTS.labels(lost.source).inc()
    if not lost.is_dead:
        return
    _repeated.warning(
        "a delivery is dead", about={"source": lost.source}, delivery=lost.delivery_id, reason=lost.reason
    )
    metrics.ended(lost.source, State.DEAD.value, "").inc()
    # A time that was edited by hand may not be readable.
    if lost.round == 1 and isinstance(lost.received_at, datetime):
        metrics.applied(lost.source).observe(max((now - lost.received_at).total_seconds(), 0.0))
