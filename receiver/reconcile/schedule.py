"""The schedule: sources are reconciled by the workers, when their settings say so, behind live work.

One process at a time reconciles a source. What was due while nobody ran is made up once. A walk that a process left
behind is gone on with.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy import Row, select

from receiver.database.database import Database
from receiver.database.errors import retry_transaction
from receiver.dialects.sources import Source
from receiver.inbox.inbox import Inbox
from receiver.loading import foreign_code
from receiver.logs.safe_text import told_with_type
from receiver.reconcile.lease import RESUMED_WITHIN, UnderWayError, state_of
from receiver.reconcile.reconciling import Stopped, reconcile
from receiver.reconcile.tables import RECONCILES
from receiver.settings.timetable import Timetable
from receiver.worker import liveness

log = structlog.get_logger(__name__)

#: Seconds between two looks at the schedule.
SCHEDULE_POLL = 15.0

#: A page waits while a delivery has been due for so many seconds; it waits for so many at most.
LIVE_WORK_WAITS, LONGEST_WAY = 1.0, 30.0


@dataclass(frozen=True, slots=True)
class ReconcileStatus:
    """When a source was reconciled last, and will be next."""

    source: str
    #: As the settings say; None if only by hand.
    schedule: str | None
    began_at: datetime | None = None
    #: None while it is under way, or broke off.
    ended_at: datetime | None = None
    under_way: bool = False
    #: Why the last one broke off.
    error: str | None = None
    next_at: datetime | None = None


def statuses(database: Database, sources: Mapping[str, Source], *, now: datetime) -> list[ReconcileStatus]:
    """How each source stands, in the order of their names."""
    rows = {row.source: row for row in _rows(database)}
    return [_status(name, source, rows.get(name), now) for name, source in sorted(sources.items())]


def due_sources(database: Database, sources: Mapping[str, Source], *, now: datetime) -> list[Source]:
    """The sources that are to be reconciled now. One that is heard of for the first time has missed nothing."""
    planned = {name: plan for name, source in sources.items() if (plan := _plan(source)) is not None}
    if not planned:
        return []
    rows = {row.source: row for row in _rows(database)}
    for name in sorted(planned.keys() - rows.keys()):
        rows[name] = retry_transaction(lambda name=name: _notice(database, name, now))  # type: ignore[misc]
    return [sources[name] for name in sorted(planned) if _is_due(rows[name], planned[name], now)]


class ReconcileThread:
    """Reconciles sources when they are due, on a thread beside the worker."""

    def __init__(
        self,
        inbox: Inbox,
        sources: Callable[[], Mapping[str, Source]],
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        poll: float = SCHEDULE_POLL,
    ) -> None:
        """`sources` are those in force, whenever they are asked for."""
        self._inbox, self._sources = inbox, sources
        self._clock, self._poll = clock, poll
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reconcile", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End before the next page; the walk is gone on with after the next start."""
        self._stopping.set()
        self._thread.join(self._poll)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look()
            except Exception as error:
                # The database may be away; the schedule must not end with it.
                log.warning("the schedule of reconciles could not be read", error=told_with_type(error))
            self._stopping.wait(self._poll)

    def look(self) -> None:
        """Reconcile what is due."""
        for source in due_sources(self._inbox.database, self._sources(), now=self._clock()):
            if self._stopping.is_set():
                return
            self._reconcile(source)

    def _reconcile(self, source: Source) -> None:
        try:
            with foreign_code(f"The list of {source.name}"):
                report = reconcile(
                    self._inbox.database,
                    source,
                    scheduled=True,
                    before_page=self._make_way,
                    clock=self._clock,
                )
        except UnderWayError:
            return
        except Stopped:
            log.info("a scheduled reconcile stopped; it is gone on with later", source=source.name)
        except Exception as error:
            log.warning("a scheduled reconcile broke off", source=source.name, error=told_with_type(error))
        else:
            sums = {"listed": report.listed, "repaired": report.repairs, "newer": report.newer, "left": report.left}
            tell = log.warning if report.braked else log.info
            tell("reconciled by schedule", source=source.name, **sums, braked=report.braked)

    def _make_way(self) -> None:
        """Wait while live work waits. Raises `Stopped` when the process ends."""
        waited = 0.0
        while not self._stopping.is_set() and waited < LONGEST_WAY:
            if self._inbox.oldest_due_seconds(sorted(self._sources()), now=self._clock()) < LIVE_WORK_WAITS:
                return
            self._stopping.wait(0.2)
            waited += 0.2
        if self._stopping.is_set():
            raise Stopped


def _plan(source: Source) -> Timetable | None:
    """When the source is reconciled; never, if it has no list to walk."""
    if source.dialect.listing_of is None or source.settings.api_url is None:
        return None
    return source.settings.reconcile_timetable


def _status(name: str, source: Source, row: Row[Any] | None, now: datetime) -> ReconcileStatus:
    plan = _plan(source)
    following = None if plan is None else plan.following(now, name=name)
    if row is None:
        return ReconcileStatus(name, source.settings.reconcile, next_at=following)
    is_held = row.holder is not None and row.lease_until > now and not liveness.dead([row.holder])
    if plan is not None and not is_held and _is_due(row, plan, now):
        following = now
    return ReconcileStatus(
        name, source.settings.reconcile, row.began_at, row.ended_at, is_held, row.error, next_at=following
    )


def _is_due(row: Row[Any], plan: Timetable, now: datetime) -> bool:
    if row.scheduled and row.ended_at is None and row.error is None and row.lease_until is not None:
        # Left behind by a process that was stopped or killed.
        is_left = row.holder is None or row.lease_until <= now or bool(liveness.dead([row.holder]))
        if is_left and now - row.lease_until < RESUMED_WITHIN:
            return True
    known = max(moment for moment in (row.noticed_at, row.began_at) if moment is not None)
    return bool(plan.latest(now, name=row.source) > known)


def _notice(database: Database, name: str, now: datetime) -> Row[Any]:
    with database.write() as connection:
        return state_of(connection, name, now=now)


def _rows(database: Database) -> list[Row[Any]]:
    def read() -> list[Row[Any]]:
        with database.read() as connection:
            return list(connection.execute(select(RECONCILES)))

    return retry_transaction(read)
