"""One reconcile per source at a time, whichever process runs it; and the mark from which another goes on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, select, update

from receiver.database.bulk import insert_rows
from receiver.database.database import Database
from receiver.database.errors import retry_transaction
from receiver.errors import ApiError, ConfigurationError
from receiver.reconcile.mark import Mark, new_mark
from receiver.reconcile.seen import drop, drop_older
from receiver.reconcile.tables import RECONCILES
from receiver.worker import liveness

#: How long a walk may stay silent: a page with many questions takes its time. A process that ended need not be waited
#: for, where that can be known.
RECONCILE_LEASE = timedelta(minutes=15)

#: How long after it broke off a walk is resumed; later, too much has changed behind it.
RESUMED_WITHIN = timedelta(hours=1)

#: What forecasts have left behind is dropped after this.
LEFT_BEHIND = timedelta(days=2)

#: Characters of a reason that are kept.
LONGEST_ERROR = 500


class UnderWayError(ConfigurationError):
    """Another process reconciles the source."""


class HeldSource(NamedTuple):
    """The source is this process's to reconcile, from this mark."""

    mark: Mark
    is_resumed: bool


class Holding:
    """One source, held by one process while it walks."""

    def __init__(self, database: Database, source: str, *, clock: Callable[[], datetime]) -> None:
        self._database, self._source, self._clock = database, source, clock
        self._name = liveness.new_name()

    def take(self, *, force: bool = False, scheduled: bool = False) -> HeldSource:
        """Hold the source. Raises `UnderWayError` while another process walks."""
        try:
            held, left_behind = retry_transaction(lambda: self._take(force, scheduled))
            if left_behind is not None:
                drop(self._database, left_behind)
            drop_older(self._database, new_mark(self._source, now=self._clock() - LEFT_BEHIND).run)
        except BaseException:
            # What it may hold already is free for others of this machine.
            liveness.deregister(self._name)
            raise
        return held

    def keep(self, connection: Connection, mark: Mark) -> None:
        """Store the mark, as part of the caller's transaction. Raises `ApiError` if another process has taken over."""
        self._update(connection, mark=mark.to_json(), lease_until=self._clock() + RECONCILE_LEASE)

    def end(self, mark: Mark) -> None:
        """The walk is done."""
        self._release(mark=mark.to_json(), ended_at=self._clock(), error=None)

    def break_off(self, reason: str | None) -> None:
        """Let go of the source; the next walk goes on from the mark that was kept last."""
        self._release(error=None if reason is None else reason[:LONGEST_ERROR])

    def _release(self, **values: Any) -> None:
        def release() -> None:
            with self._database.write() as connection:
                self._update(connection, holder=None, lease_until=self._clock(), **values)

        try:
            retry_transaction(release)
        finally:
            liveness.deregister(self._name)

    def _update(self, connection: Connection, **values: Any) -> None:
        mine = (RECONCILES.c.source == self._source, RECONCILES.c.holder == self._name)
        if not connection.execute(update(RECONCILES).where(*mine).values(**values)).rowcount:
            raise ApiError(f"Another process has taken over the reconcile of {self._source}; this one ends.")

    def _take(self, force: bool, scheduled: bool) -> tuple[HeldSource, str | None]:
        now = self._clock()
        with self._database.write() as connection:
            row = state_of(connection, self._source, now=now)
            if row.holder is not None and row.lease_until > now and not liveness.dead([row.holder]):
                raise UnderWayError(
                    f"{self._source} is being reconciled already, since {row.began_at:%H:%M:%S} UTC: wait for its end."
                )
            mark = _resumable(row, force=force, now=now)
            held = HeldSource(mark or new_mark(self._source, now=now, force=force), mark is not None)
            taken: dict[str, Any] = {"holder": self._name, "lease_until": now + RECONCILE_LEASE, "run": held.mark.run}
            if mark is None:
                taken |= {"mark": held.mark.to_json(), "began_at": now, "ended_at": None, "scheduled": scheduled}
            connection.execute(update(RECONCILES).where(RECONCILES.c.source == self._source).values(**taken))
        return held, row.run if mark is None else None


def state_of(connection: Connection, source: str, *, now: datetime) -> Row[Any]:
    """The source's row, which is made if there is none; nobody else changes it until the transaction ends."""
    insert_rows(connection, RECONCILES, ("source", "noticed_at", "scheduled"), [(source, now, False)], conflict=_THERE)
    return connection.execute(select(RECONCILES).where(RECONCILES.c.source == source).with_for_update()).one()


def _resumable(row: Row[Any], *, force: bool, now: datetime) -> Mark | None:
    """The mark of a walk that was not ended, and is like the one that is wanted."""
    if row.run is None or row.ended_at is not None or row.mark is None:
        return None
    silent_since = row.lease_until - RECONCILE_LEASE if row.holder is not None else row.lease_until
    mark = Mark.from_json(row.mark)
    return mark if mark.force == force and now - silent_since < RESUMED_WITHIN else None


_THERE = "ON CONFLICT (source) DO NOTHING"
