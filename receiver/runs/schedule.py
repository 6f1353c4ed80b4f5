"""The schedule: begins reconciles of sources at the times in their settings.

A due reconcile begins a run, which any process with a worker steps. Times missed while no worker ran count once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from time import monotonic
from typing import Any

import structlog
from sqlalchemy import BigInteger, Column, Connection, RowMapping, Select, Text, bindparam, func, select

from receiver.database.bulk import insert_rows
from receiver.database.columns import Many, among
from receiver.database.database import Database
from receiver.database.errors import retry_transaction
from receiver.dialects.sources import Source
from receiver.errors import RunConflict
from receiver.logs.safe_text import told_with_type
from receiver.runs.actions import Asked, By, Via
from receiver.runs.reconcile import RECONCILE, RECONCILE_LEASE
from receiver.runs.runs import Verbs
from receiver.runs.tables import OVER, RUNS, SCHEDULES, STARTED_RECONCILES, RunState
from receiver.runs.unplanned_run import UnplannedRun, begin_run
from receiver.search.changes import CLOCKS_APART
from receiver.settings.timetable import Timetable

log = structlog.get_logger(__name__)

#: Seconds between polls of the schedule.
SCHEDULE_POLL = 15.0

#: The author of actions that a schedule begins.
BY_SCHEDULE = By("schedule", Via.SCHEDULE)


@dataclass(frozen=True, slots=True)
class ReconcileStatus:
    """The latest and the next reconcile of a source."""

    source: str
    #: The timetable in the settings; None without one.
    schedule: str | None
    #: The latest run.
    run: int | None = None
    began_at: datetime | None = None
    #: The time at which the latest run ended; None while it is unfinished.
    ended_at: datetime | None = None
    under_way: bool = False
    #: The reason why the latest run failed or does not progress.
    error: str | None = None
    next_at: datetime | None = None


def statuses(database: Database, sources: Mapping[str, Source], *, now: datetime) -> list[ReconcileStatus]:
    """The reconcile status of each source, in the order of their names."""
    known = _known(database, sources)
    return [_status(name, source, known[name], now) for name, source in sorted(sources.items())]


def due_sources(database: Database, sources: Mapping[str, Source], *, now: datetime) -> list[Source]:
    """The sources whose reconcile is due now. A source new to the schedule has missed none."""
    planned = {name: source for name, source in sources.items() if _plan(source) is not None}
    if not planned:
        return []
    known = _known(database, planned)
    new = sorted(name for name, (noticed_at, _) in known.items() if noticed_at is None or _lies_ahead(noticed_at, now))
    if new:
        retry_transaction(lambda: _notice(database, new, now))
        known = _known(database, planned)
    return [source for name, source in sorted(planned.items()) if _is_due(source, *known[name], now)]


class ReconcileSchedule:
    """Begins due reconciles whenever `look` is called."""

    def __init__(
        self,
        verbs: Verbs,
        sources: Mapping[str, Source],
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        poll: float = SCHEDULE_POLL,
    ) -> None:
        self._verbs, self._sources = verbs, sources
        self._clock, self._poll = clock, poll
        self._look_at = 0.0

    def look(self) -> None:
        """Begin the due reconciles, unless the last call was less than a poll ago."""
        if monotonic() < self._look_at:
            return
        self._look_at = monotonic() + self._poll
        now = self._clock()
        for source in due_sources(self._verbs.database, self._sources, now=now):
            try:
                self._begin(source, now)
            except RunConflict as error:
                log.info("a reconcile is due, but another one is at work", source=source.name, reason=str(error))
            except Exception as error:
                # A failure of one source must not hold up the others.
                log.warning("cannot begin a scheduled reconcile", source=source.name, error=told_with_type(error))

    def _begin(self, source: Source, now: datetime) -> None:
        asked = Asked(
            by=BY_SCHEDULE,
            what=RECONCILE,
            arguments={"source": source.name, "force": False},
            reason=f"by the schedule {source.settings.reconcile!r}",
        )

        def is_still_due(connection: Connection) -> bool:
            return _is_due(source, *_of_sources(connection, [source.name])[source.name], now)

        wanted = UnplannedRun(
            kind=RECONCILE, source=source.name, lease=RECONCILE_LEASE, goes_on=False, is_wanted=is_still_due
        )
        begun = begin_run(self._verbs, asked, wanted, now=now)
        if begun is not None:
            log.info("a scheduled reconcile begins", source=source.name, run=begun.result["run"])


def _plan(source: Source) -> Timetable | None:
    """The timetable of the source; None if it has no list or no address of an API."""
    if source.dialect.listing_of is None or source.settings.api_url is None:
        return None
    return source.settings.reconcile_timetable


def _status(
    name: str, source: Source, known: tuple[datetime | None, RowMapping | None], now: datetime
) -> ReconcileStatus:
    plan = _plan(source)
    following = None if plan is None else plan.following(now, name=name)
    noticed_at, run = known
    if noticed_at is not None and _is_due(source, noticed_at, run, now):
        following = now
    if run is None:
        return ReconcileStatus(name, source.settings.reconcile, next_at=following)
    is_open = run["state"] not in OVER
    return ReconcileStatus(
        name,
        source.settings.reconcile,
        run=run["id"],
        began_at=run["started_at"],
        ended_at=run["ended_at"],
        under_way=run["state"] == RunState.RUNNING,
        error=run["trouble"] if is_open else None,
        next_at=following,
    )


def _is_due(source: Source, noticed_at: datetime | None, run: RowMapping | None, now: datetime) -> bool:
    plan = _plan(source)
    if plan is None or (run is not None and _is_in_hand(run)):
        return False
    known = [moment for moment in (noticed_at, None if run is None else run["started_at"]) if moment is not None]
    past = [moment for moment in known if not _lies_ahead(moment, now)]
    return bool(plan.latest(now, name=source.name) > max(past, default=now))


def _lies_ahead(moment: datetime, now: datetime) -> bool:
    """Whether the clock has been set back since. The next reconcile must not wait until then."""
    return moment > now + CLOCKS_APART


def _is_in_hand(run: RowMapping) -> bool:
    """Whether the run is running, or paused by a person."""
    return run["state"] == RunState.RUNNING or (run["state"] == RunState.PAUSED and run["trouble"] is None)


def _notice(database: Database, names: list[str], now: datetime) -> None:
    with database.write() as connection:
        rows = [(name, now) for name in names]
        again = "ON CONFLICT (source) DO UPDATE SET noticed_at = excluded.noticed_at"
        insert_rows(connection, SCHEDULES, ("source", "noticed_at"), rows, conflict=again)


def _known(database: Database, sources: Mapping[str, Source]) -> dict[str, tuple[datetime | None, RowMapping | None]]:
    """For each source, the time at which its schedule was first noticed, and its latest reconcile."""

    def read() -> dict[str, tuple[datetime | None, RowMapping | None]]:
        with database.read() as connection:
            return _of_sources(connection, list(sources))

    return retry_transaction(read)


def _of_sources(connection: Connection, names: Sequence[str]) -> dict[str, tuple[datetime | None, RowMapping | None]]:
    rows = connection.execute(_NOTICED, {"names": list(names)}).all()
    noticed = {row.source: row.noticed_at for row in rows}
    latest = latest_reconciles(connection, names, _SHOWN)
    return {name: (noticed.get(name), next(iter(latest[name]), None)) for name in names}


def latest_reconciles(
    connection: Connection,
    names: Sequence[str],
    columns: Sequence[Column[Any]],
    *,
    state: RunState | None = None,
    number: int = 1,
) -> dict[str, list[RowMapping]]:
    """These columns, `id` among them, of the latest reconciles of each source: `number` of them, the latest first.

    With `state`, only reconciles in that state count.
    """
    # The runs' own form of a list with one source, by the name of the source.
    forms = {RUNS.c.sources.type.bind_processor(connection.dialect)([name]): name for name in names}  # type: ignore[misc]
    wanted = _ids(connection.dialect.name == "postgresql", state, number)
    ids = {form: found for form, *found in connection.execute(wanted, {"forms": list(forms)})}
    every = [each for found in ids.values() for each in found if each is not None]
    rows = select(*columns).where(among(RUNS.c.id, bindparam("ids", type_=Many(BigInteger))))
    by_id = {row["id"]: row for row in connection.execute(rows, {"ids": every}).mappings()}
    return {name: [by_id[each] for each in ids[form] if each in by_id] for form, name in forms.items()}


@cache
def _ids(is_postgresql: bool, state: RunState | None, number: int) -> Select[Any]:
    """Select, for each of `forms`, the ids of its latest reconciles.

    Each is one step along an index. A join would walk through all runs, of which a source that is compared often has
    many.
    """
    forms = bindparam("forms", type_=Many(Text))
    if is_postgresql:
        form: Any = func.unnest(forms, type_=Text).column_valued("form")
    else:
        form = func.json_each(forms).table_valued("value").c.value
    # A range, and an order that only the index over both columns has. For `=` and the order of ids, PostgreSQL might
    # walk through all runs along their primary key, because it does not know the sources while it plans.
    of_it: list[Any] = [STARTED_RECONCILES, RUNS.c.sources.between(form, form)]
    of_it += [] if state is None else [RUNS.c.state == state.value]
    latest = select(RUNS.c.id).where(*of_it).order_by(RUNS.c.sources.desc(), RUNS.c.id.desc()).limit(1)
    return select(form, *(latest.offset(place).scalar_subquery() for place in range(number)))


_SHOWN = [RUNS.c[name] for name in ("id", "state", "started_at", "ended_at", "trouble")]

_NOTICED = select(SCHEDULES.c.source, SCHEDULES.c.noticed_at).where(
    among(SCHEDULES.c.source, bindparam("names", type_=Many(Text)))
)
