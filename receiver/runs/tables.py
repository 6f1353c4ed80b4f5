"""The tables of runs.

    planning ─► planned ─► running ◄─► paused
       │           │          ├──► done     │
       └───────────┴── cancel ┴─► cancelled ┘

`runs` has a row for each run. `run_turns` has a row for each run at work, and its primary key admits one run per kind
and source. `run_deliveries` has the frozen set of a replay, and `run_rows` the rows that a run would change.
`schedules` has the sources that workers reconcile by a timetable.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, NotRequired, TypedDict

from sqlalchemy import BigInteger, Column, Index, Table, text
from sqlmodel import Field, SQLModel

from receiver.database.columns import Document, UtcDateTime
from receiver.database.sqlite.stored_types import RowNumber
from receiver.mirror.changes import ChangedValues


class RunState(StrEnum):
    """The state of a run."""

    #: A feeder freezes its set and makes its forecast.
    PLANNING = "planning"
    PLANNED = "planned"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    CANCELLED = "cancelled"


#: The final states.
OVER = (RunState.DONE, RunState.CANCELLED)


class ItemState(StrEnum):
    """The state of a delivery within a run's set."""

    WAITING = "waiting"
    #: Pending or processing in the round that the run began.
    FED = "fed"
    #: Its attempt failed, and the next one is due later.
    RETRYING = "retrying"
    ENDED = "ended"
    #: It could not be replayed; the reason says why.
    SKIPPED = "skipped"


_OPEN = text("state IN ('planning', 'running')")

#: The reconciles that were started, each of one source.
STARTED_RECONCILES = text("kind = 'reconcile' AND started_at IS NOT NULL")


class ForecastReason(TypedDict):
    """A reason in a forecast, with the number of the deliveries or rows that have it."""

    reason: str
    deliveries: NotRequired[int]
    rows: NotRequired[int]


class ForecastTotals(TypedDict):
    """The members of every forecast."""

    made_at: datetime
    partial: str | None
    outcomes: dict[str, int]
    reasons: list[ForecastReason]
    rows: dict[str, dict[str, int]]


class OfRun(Document):
    """A JSON object of a run: its arguments, or its mark."""

    shape: ClassVar[Any] = dict[str, Any]
    mend = "Cancel the run unless it has ended, and begin another."


class SourcesOfRun(OfRun):
    """The sources that a run concerns."""

    shape: ClassVar[Any] = list[str]


class TallyOfRun(OfRun):
    """The tally of a run."""

    shape: ClassVar[Any] = dict[str, int]


class ForecastOfRun(OfRun):
    """The totals of a run's forecast."""

    shape: ClassVar[Any] = ForecastTotals


class Run(SQLModel, table=True):
    """One replay, reconcile, repair or prune, from its plan to its end."""

    __tablename__ = "runs"
    __table_args__ = (
        Index("ix_runs_open", "id", sqlite_where=_OPEN, postgresql_where=_OPEN),
        Index(
            "ix_runs_reconciles", "sources", "id", sqlite_where=STARTED_RECONCILES, postgresql_where=STARTED_RECONCILES
        ),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(
        default=None, sa_column=Column(BigInteger().with_variant(RowNumber, "sqlite"), primary_key=True)
    )
    #: `replay`, `reconcile`, `date_back`, `repair` or `prune`.
    kind: str
    #: The sources that the run concerns.
    sources: Any = Field(sa_type=SourcesOfRun)
    #: The arguments of the request.
    arguments: Any = Field(sa_type=OfRun)
    state: str
    #: The number of deliveries or rows to process, as far as known, and the number of finished ones.
    total: int = Field(sa_type=BigInteger)
    done: int = Field(sa_type=BigInteger)
    #: The number of deliveries or rows by outcome.
    tally: Any = Field(sa_type=TallyOfRun)
    #: The mark at which the next step continues.
    mark: Any = Field(default=None, sa_type=OfRun, nullable=True)
    #: The totals of the plan's forecast; see `receiver.runs.forecast`.
    forecast: Any = Field(default=None, sa_type=ForecastOfRun, nullable=True)
    #: The release of hookmirror, and the fingerprint of the wiring, with which the run was planned.
    release: str
    wiring: str
    planned_by: str
    planned_at: datetime = Field(sa_type=UtcDateTime)
    started_by: str | None = None
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    #: The reason given for its start.
    reason: str | None = None
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    #: The reason why it does not progress at present.
    trouble: str | None = None
    #: The feeder that leases the run, and when the lease ends.
    fed_by: str | None = None
    fed_until: datetime | None = Field(default=None, sa_type=UtcDateTime)


class RunTurn(SQLModel, table=True):
    """The run of one kind that is at work on one source."""

    __tablename__ = "run_turns"

    kind: str = Field(primary_key=True)
    source: str = Field(primary_key=True)
    run: int = Field(sa_type=BigInteger)


class RunDelivery(SQLModel, table=True):
    """One delivery of a run's set."""

    __tablename__ = "run_deliveries"
    __table_args__ = (
        *(
            Index(
                f"ix_run_deliveries_{state}",
                "delivery_id",
                "run",
                sqlite_where=text(f"state = '{state}'"),
                postgresql_where=text(f"state = '{state}'"),
            )
            for state in (ItemState.FED, ItemState.RETRYING)
        ),
        {"sqlite_with_rowid": False},
    )

    run: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    delivery_id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    state: str
    #: The forecast outcome and its reason; None if the delivery was not tried.
    forecast: str | None = None
    forecast_reason: str | None = None
    #: The actual outcome and its reason.
    outcome: str | None = None
    reason: str | None = None


class RunRow(SQLModel, table=True):
    """One row that the run would change, according to its plan."""

    __tablename__ = "run_rows"

    run: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    table: str = Field(primary_key=True)
    source: str = Field(primary_key=True)
    external_id: str = Field(primary_key=True)
    #: `insert`, `update`, `deactivate` or `reactivate`.
    operation: str
    #: The present values of the columns that would change; empty for an insert.
    before: Any = Field(sa_type=ChangedValues)
    #: The values of these columns after the run.
    after: Any = Field(sa_type=ChangedValues)


class ScheduledSource(SQLModel, table=True):
    """A source with a schedule."""

    __tablename__ = "schedules"

    source: str = Field(primary_key=True)
    #: The time at which the schedule was first noticed. Earlier times do not count as missed.
    noticed_at: datetime = Field(sa_type=UtcDateTime)


RUNS: Table = Run.__table__  # type: ignore[attr-defined]
SCHEDULES: Table = ScheduledSource.__table__  # type: ignore[attr-defined]
TURNS: Table = RunTurn.__table__  # type: ignore[attr-defined]
RUN_DELIVERIES: Table = RunDelivery.__table__  # type: ignore[attr-defined]
RUN_ROWS: Table = RunRow.__table__  # type: ignore[attr-defined]


def in_item_state(state: ItemState) -> Any:
    # A literal, not a parameter, because neither database applies a partial index to a parameter.
    return text(f"run_deliveries.state = '{state}'")
