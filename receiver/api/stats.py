"""Statistics over HTTP, and the counts behind them and the metrics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from threading import Lock
from time import monotonic
from typing import Annotated, Any

from msgspec import Meta
from msgspec.structs import replace
from sqlalchemy import RowMapping, Select, func, select, union_all

from receiver.api.operations import Operation, Parameter, Question
from receiver.api.parameters import flag
from receiver.api.tokens import Scope
from receiver.database.database import Database
from receiver.errors import BadRequest, Unavailable
from receiver.inbox.tables import DELIVERIES, HAS_ENDED, State, in_state
from receiver.mirror.versions import Outcome
from receiver.runs.schedule import ReconcileStatus
from receiver.schemas import Moment, Shape

#: A full count is cached for this many times as long as it took, and at least for this many seconds.
COUNT_REUSE, LEAST_REUSE = 20, 1.0

#: The longest wait for a count that another request has begun, in seconds.
COUNT_TIMEOUT = 5.0

#: The number of a source's newest deliveries by id among which the latest is searched.
NEWEST_LOOKED_AT = 200

#: The states of a backlog, each of which has a partial index.
BACKLOG = (State.PENDING, State.PROCESSING, State.DEAD)


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
        float | None, Meta(description="Of the newest processed delivery: from its change to its end.")
    ]
    last_delivery_at: Moment | None
    reconcile: Annotated[SourceReconcile | None, Meta(description="Null for a source that is not in the settings.")]


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


class Counts:
    """Counts per source. A count over the whole history is reused for a while, because it takes long."""

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
        self._counting = Lock()
        self._ended: list[RowMapping] = []
        self._believed_until = 0.0

    def per_source(self, *, now: datetime, brief: bool = False) -> list[SourceStatistics]:
        """The statistics of each source in the settings or with deliveries, sorted by name.

        With `brief`, only the counts that an index gives, and only sources in the settings or with a backlog.
        """
        with self._database.read() as connection:
            open_rows = connection.execute(_BACKLOG if brief else _OPEN).mappings().all()
        ended_rows = [] if brief else self._count_ended()
        reconciles = {each.source: _show_reconcile(each) for each in self._reconciles(now)}
        names = {row["source"] for row in [*open_rows, *ended_rows]} | set(self.sources)
        return [
            replace(self._source(name, open_rows, ended_rows, now, brief=brief), reconcile=reconciles.get(name))
            for name in sorted(names)
        ]

    def _count_ended(self) -> list[RowMapping]:
        # One count at a time; a request that waited here uses the result of the count before.
        if not self._counting.acquire(timeout=COUNT_TIMEOUT):
            raise Unavailable("Another request is still counting the deliveries. Ask again later.")
        try:
            began = monotonic()
            if began >= self._believed_until:
                with self._database.read() as connection:
                    self._ended = list(connection.execute(_ENDED).mappings())
                took = monotonic() - began
                self._believed_until = began + (
                    max(took * COUNT_REUSE, LEAST_REUSE) if took > LEAST_REUSE / 20 else 0.0
                )
            return self._ended
        finally:
            self._counting.release()

    def backlog(self) -> dict[tuple[str, str], int]:
        """The number of pending, processing and dead deliveries by source and state, without reading the history."""
        with self._database.read() as connection:
            rows = connection.execute(_BACKLOG).mappings().all()
        found: dict[tuple[str, str], int] = defaultdict(int)
        for row in rows:
            found[row["source"], row["state"]] += row["deliveries"]
        return found

    def _source(
        self,
        name: str,
        open_rows: Sequence[RowMapping],
        ended_rows: Sequence[RowMapping],
        now: datetime,
        *,
        brief: bool,
    ) -> SourceStatistics:
        states = dict.fromkeys(BACKLOG if brief else State, 0)
        outcomes: dict[Outcome, int] = defaultdict(int)
        duplicates = 0
        for row in [*open_rows, *ended_rows]:
            if row["source"] == name:
                states[row["state"]] += row["deliveries"]
                duplicates += row["duplicates"]
                if row["outcome"]:
                    outcomes[row["outcome"]] += row["deliveries"]
        oldest = min(
            (
                row["oldest"]
                for row in open_rows
                if row["source"] == name and row["state"] != State.DEAD and row["oldest"]
            ),
            default=None,
        )
        return SourceStatistics(
            source=name,
            states=states,
            outcomes=outcomes,
            duplicates=duplicates,
            oldest_pending_seconds=max((now - oldest).total_seconds(), 0.0) if oldest else None,
            freshness_seconds=self._freshness(name),
            last_delivery_at=self._last(name),
            reconcile=None,
        )

    def _last(self, name: str) -> datetime | None:
        newest = select(DELIVERIES.c.received_at).where(DELIVERIES.c.source == name).order_by(DELIVERIES.c.id.desc())
        # The newest ids may belong to requests that were refused hours ago and accepted now.
        latest = func.max(newest.limit(NEWEST_LOOKED_AT).subquery().c.received_at, type_=DELIVERIES.c.received_at.type)
        with self._database.read() as connection:
            return connection.execute(select(latest)).scalar()

    def _freshness(self, name: str) -> float | None:
        """The seconds from the change to the end of the newest processed delivery."""
        statement = (
            select(DELIVERIES.c.occurred_at, DELIVERIES.c.ended_at)
            .where(DELIVERIES.c.source == name, DELIVERIES.c.state == State.PROCESSED.value)
            .order_by(DELIVERIES.c.id.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            newest = connection.execute(statement).first()
        if newest is None or newest.occurred_at is None or newest.ended_at is None:
            return None
        return float(max((newest.ended_at - newest.occurred_at).total_seconds(), 0.0))


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
        )
        .where(states)
        # The source comes last: if it came first, SQLite would read the whole history in the order of the sources.
        .group_by(DELIVERIES.c.state, DELIVERIES.c.outcome, DELIVERIES.c.source)
    )


#: One query per state, because each has a partial index of its few rows.
_OPEN = union_all(_tally(in_state(State.PENDING)), _tally(in_state(State.PROCESSING)))
_ENDED = _tally(HAS_ENDED)
_BACKLOG = union_all(*(_tally(in_state(state)) for state in BACKLOG))
