"""Statistics over HTTP, and the counts behind them and the metrics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from msgspec import Meta
from msgspec.structs import replace
from sqlalchemy import (
    CompoundSelect,
    Row,
    RowMapping,
    Select,
    func,
    select,
    union_all,
)

from receiver.api.newest_deliveries import NewestDeliveries, newest_of
from receiver.api.operations import Operation, Parameter, Question
from receiver.api.parameters import flag
from receiver.api.tokens import Scope
from receiver.database.database import Database
from receiver.database.shared_results import SharedResult
from receiver.errors import BadRequest, Unavailable
from receiver.inbox.tables import DELIVERIES, HAS_ENDED, State, in_state
from receiver.mirror.versions import Outcome
from receiver.runs.schedule import ReconcileStatus
from receiver.schemas import Moment, Shape

#: A count of this many deliveries or more is shared for a while. Smaller ones are counted for each request.
MANY = 5_000

#: The states of unfinished deliveries, and those of a backlog. Each has a partial index.
OPEN = (State.PENDING, State.PROCESSING)
BACKLOG = (*OPEN, State.DEAD)


class SourceReconcile(Shape, frozen=True):
    """The latest and the next reconcile of a source."""

    schedule: Annotated[str | None, Meta(description="The timetable in the settings; null without one.")]
    run: Annotated[str | None, Meta(description="The latest run.")]
    began_at: Moment | None
    ended_at: Annotated[Moment | None, Meta(description="Null while the latest run is unfinished.")]
    under_way: bool
    error: Annotated[str | None, Meta(description="The reason why the latest run failed or does not progress.")]
    next_at: Moment | None


class SourceStatistics(Shape, frozen=True):
    """The statistics of one source."""

    source: str
    states: Annotated[
        dict[State, int],
        Meta(
            description="With `brief` only those that an index counts: pending, processing and dead.",
            extra_json_schema={"propertyNames": {"enum": [*map(str, State)]}},
        ),
    ]
    outcomes: Annotated[dict[Outcome, int], Meta(extra_json_schema={"propertyNames": {"enum": [*map(str, Outcome)]}})]
    duplicates: int
    oldest_pending_seconds: float | None
    freshness_seconds: Annotated[
        float | None,
        Meta(description="Of the newest processed delivery: from its change to its first processing."),
    ]
    last_delivery_at: Moment | None
    reconcile: Annotated[SourceReconcile | None, Meta(description="Null for a source that is not in the settings.")]
    counted_at: Annotated[Moment, Meta(description="The time of `states`: a large count is shared for a while.")]


class Statistics(Shape, frozen=True):
    sources: list[SourceStatistics]


BRIEF: Parameter[bool] = Parameter(
    "brief", {"type": "boolean"}, "Without the counts that need the whole history.", flag("brief"), False
)


class Stats:
    """Returns the statistics of each source: `/api/v1/stats`."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def operations(self) -> list[Operation]:
        return [
            Operation(
                name="show_stats",
                path="/api/v1/stats",
                summary="Counts and ages per source",
                answer=self.show_stats,
                answers={200: Statistics},
                scope=Scope.READ,
                parameters=(BRIEF,),
                refusals=(BadRequest, Unavailable),
            )
        ]

    def show_stats(self, asked: Question) -> Statistics:
        return Statistics(self._counts.per_source(now=datetime.now(UTC), brief=asked[BRIEF]))


class SharedCount:
    """A count of deliveries, of which requests share a large one."""

    def __init__(self, database: Database, statement: CompoundSelect[Any]) -> None:
        """`statement` returns rows with their numbers as `deliveries`."""
        self._database = database
        self._statement = statement
        self._shared: SharedResult[list[RowMapping]] = SharedResult(is_large=_is_large)

    def counted(self, *, now: datetime) -> tuple[list[RowMapping], datetime]:
        """The rows, and the time at which they were counted. Raises `Unavailable` while another count takes long."""
        return self._shared.get(self._count, now=now)

    def _count(self) -> list[RowMapping]:
        with self._database.read() as connection:
            return list(connection.execute(self._statement).mappings().all())


def _is_large(rows: Sequence[RowMapping]) -> bool:
    return bool(sum(row["deliveries"] for row in rows) >= MANY)


class Counts:
    """Counts per source."""

    def __init__(
        self,
        database: Database,
        sources: Sequence[str],
        *,
        reconciles: Callable[[datetime], Sequence[ReconcileStatus]] = lambda _: (),
    ) -> None:
        """`reconciles` returns the reconcile status of the sources in the settings at a given time."""
        self._database = database
        self._reconciles = reconciles
        #: The sources in the settings.
        self.sources = sources
        self._backlog = SharedCount(database, _BACKLOG)
        self._everything = SharedCount(database, _EVERYTHING)

    def per_source(self, *, now: datetime, brief: bool = False, only: str | None = None) -> list[SourceStatistics]:
        """The statistics of each source in the settings or with deliveries, sorted by name; or `only` those of one.

        With `brief`, only the counts that an index gives, and only sources in the settings or with a backlog.
        """
        # Before the transaction below, because with a single connection two reads cannot overlap.
        rows, counted_at = self._backlog.counted(now=now) if brief else self._everything_counted(now)
        reconciles = {each.source: _show_reconcile(each) for each in self._reconciles(now)}
        # By source once, because reading all rows for each source would take a time that grows by the square.
        by_source: dict[str, list[RowMapping]] = defaultdict(list)
        for row in rows:
            by_source[row["source"]].append(row)
        names = by_source.keys() | set(self.sources)
        names = names if only is None else names & {only}
        with self._database.read() as connection:
            newest = newest_of(connection, sorted(names), _first_unfinished(rows))
        found = [_source(newest[name], name, by_source.get(name, ()), now, brief=brief) for name in sorted(names)]
        return [replace(each, reconcile=reconciles.get(each.source), counted_at=counted_at) for each in found]

    def _everything_counted(self, now: datetime) -> tuple[list[RowMapping], datetime]:
        """The counts of all deliveries: one statement gives them, or two if the whole history was counted before.

        Between two statements, a delivery can end without being in either.
        """
        rows, counted_at = self._everything.counted(now=now)
        if counted_at == now:
            return rows, now
        backlog, backlog_at = self._backlog.counted(now=now)
        ended = [row for row in rows if row["state"] not in OPEN]
        return [*(row for row in backlog if row["state"] in OPEN), *ended], min(counted_at, backlog_at)

    def backlog(self) -> dict[tuple[str, str], int]:
        """The number of pending, processing and dead deliveries by source and state, without reading the history."""
        with self._database.read() as connection:
            rows = connection.execute(_BACKLOG).mappings().all()
        found: dict[tuple[str, str], int] = defaultdict(int)
        for row in rows:
            found[row["source"], row["state"]] += row["deliveries"]
        return found


def _source(
    newest: NewestDeliveries,
    name: str,
    of_it: Sequence[RowMapping],
    now: datetime,
    *,
    brief: bool,
) -> SourceStatistics:
    """Sum up these counts of one source."""
    states = dict.fromkeys(BACKLOG if brief else State, 0)
    outcomes: dict[Outcome, int] = defaultdict(int)
    duplicates = 0
    for row in of_it:
        states[row["state"]] += row["deliveries"]
        duplicates += row["duplicates"]
        if row["outcome"]:
            outcomes[row["outcome"]] += row["deliveries"]
    oldest = min((row["oldest"] for row in of_it if row["state"] in OPEN and row["oldest"]), default=None)
    return SourceStatistics(
        source=name,
        states=states,
        outcomes=outcomes,
        duplicates=duplicates,
        oldest_pending_seconds=max((now - oldest).total_seconds(), 0.0) if oldest else None,
        freshness_seconds=_freshness(newest.processed),
        last_delivery_at=newest.last,
        reconcile=None,
        counted_at=now,
    )


def _first_unfinished(rows: Sequence[RowMapping]) -> dict[str, int]:
    """The first unfinished delivery of each source."""
    first: dict[str, int] = {}
    for row in rows:
        if row["state"] in OPEN:
            first[row["source"]] = min(row["first"], first.get(row["source"], row["first"]))
    return first


def _freshness(processed: Row[Any] | None) -> float | None:
    """The seconds from the change to the first end of this delivery as processed."""
    if processed is None or processed.occurred_at is None or processed.ended_at is None:
        return None
    return float(max((processed.ended_at - processed.occurred_at).total_seconds(), 0.0))


def _show_reconcile(status: ReconcileStatus) -> SourceReconcile:
    return SourceReconcile(
        schedule=status.schedule,
        run=None if status.run is None else str(status.run),
        began_at=status.began_at,
        ended_at=status.ended_at,
        under_way=status.under_way,
        error=status.error,
        next_at=status.next_at,
    )


def _tally(states: Any) -> Select[Any]:
    return (
        select(
            DELIVERIES.c.source,
            DELIVERIES.c.state,
            DELIVERIES.c.outcome,
            func.count().label("deliveries"),
            func.sum(DELIVERIES.c.duplicates).label("duplicates"),
            func.min(DELIVERIES.c.received_at).label("oldest"),
            func.min(DELIVERIES.c.id).label("first"),
        )
        .where(states)
        # The source comes last: if it came first, SQLite would read the whole history in the order of the sources.
        .group_by(DELIVERIES.c.state, DELIVERIES.c.outcome, DELIVERIES.c.source)
    )


#: One query per state, because each has a partial index of its few rows.
_BACKLOG = union_all(*(_tally(in_state(state)) for state in BACKLOG))
_EVERYTHING = union_all(*(_tally(in_state(state)) for state in OPEN), _tally(HAS_ENDED))
