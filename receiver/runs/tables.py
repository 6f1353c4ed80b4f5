"""The tables of runs: work on many deliveries or rows that is planned, started, fed in slices, and kept.

    planning ─► planned ─► running ◄─► paused
       │           │          ├──► done     │
       └───────────┴── cancel ┴─► cancelled ┘

`runs` has a row for each; `run_turns` those at work, whose primary key keeps two of one kind off one source;
`run_deliveries` the frozen set of a replay; `run_rows` the rows that a forecast would change. `schedules` are the
sources whose reconciles are begun by the workers.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Column, Index, Integer, Table, text
from sqlmodel import Field, SQLModel

from receiver.database.columns import Document, UtcDateTime


class RunState(StrEnum):
    """Where a run is on its way."""

    #: Its set is being frozen, and its forecast made.
    PLANNING = "planning"
    PLANNED = "planned"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    CANCELLED = "cancelled"


#: The states that nothing leads out of.
OVER = (RunState.DONE, RunState.CANCELLED)


class ItemState(StrEnum):
    """Where a delivery of a run's set is."""

    WAITING = "waiting"
    #: Pending or processing, by this run.
    FED = "fed"
    #: Its attempt failed, and the next one is due later.
    RETRYING = "retrying"
    ENDED = "ended"
    #: It could not be replayed; the reason says why.
    SKIPPED = "skipped"


_OPEN = text("state IN ('planning', 'running')")

#: The reconciles that were started, each of one source.
STARTED_RECONCILES = text("kind = 'reconcile' AND started_at IS NOT NULL")


class Run(SQLModel, table=True):
    """One replay, reconcile, repair or prune as work that is watched."""

    __tablename__ = "runs"
    __table_args__ = (
        Index("ix_runs_open", "id", sqlite_where=_OPEN, postgresql_where=_OPEN),
        Index(
            "ix_runs_reconciles", "sources", "id", sqlite_where=STARTED_RECONCILES, postgresql_where=STARTED_RECONCILES
        ),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(
        default=None, sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    )
    #: `replay`, `reconcile`, `date_back`, `repair` or `prune`.
    kind: str
    #: The sources that it concerns.
    sources: Any = Field(sa_type=Document)
    #: What was asked for.
    arguments: Any = Field(sa_type=Document)
    state: str
    #: Deliveries or rows to work on, as far as known, and those that came to their end.
    total: int = Field(sa_type=BigInteger)
    done: int = Field(sa_type=BigInteger)
    #: How those ended, a number for each outcome.
    tally: Any = Field(sa_type=Document)
    #: Where the next step goes on.
    mark: Any = Field(default=None, sa_type=Document, nullable=True)
    #: What a start would do, as of the plan; see `receiver.runs.forecast`.
    forecast: Any = Field(default=None, sa_type=Document, nullable=True)
    #: Of hookmirror, and the fingerprint of the wiring, with which it was planned.
    release: str
    wiring: str
    planned_by: str
    planned_at: datetime = Field(sa_type=UtcDateTime)
    started_by: str | None = None
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    #: Why it was started.
    reason: str | None = None
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    #: Why it does not move at the moment.
    trouble: str | None = None
    #: The feeder that steps it, and until when without a sign of life.
    fed_by: str | None = None
    fed_until: datetime | None = Field(default=None, sa_type=UtcDateTime)


class RunTurn(SQLModel, table=True):
    """A run at work on one source; there is one of each kind at a time."""

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
    #: The outcome that a start would bring, and why; None where it was not tried.
    forecast: str | None = None
    forecast_reason: str | None = None
    #: What became of it, and why.
    outcome: str | None = None
    reason: str | None = None


class RunRow(SQLModel, table=True):
    """One row that a start would change, as of the plan."""

    __tablename__ = "run_rows"

    run: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    table: str = Field(primary_key=True)
    source: str = Field(primary_key=True)
    external_id: str = Field(primary_key=True)
    #: `insert`, `update`, `deactivate` or `reactivate`.
    operation: str
    #: The columns that would change, as they are; empty for an insert.
    before: Any = Field(sa_type=Document)
    #: The same columns as they would be.
    after: Any = Field(sa_type=Document)


class ScheduledSource(SQLModel, table=True):
    """A source that is reconciled by a schedule."""

    __tablename__ = "schedules"

    source: str = Field(primary_key=True)
    #: When the schedule was first heard of: it misses nothing that was due before.
    noticed_at: datetime = Field(sa_type=UtcDateTime)


RUNS: Table = Run.__table__  # type: ignore[attr-defined]
SCHEDULES: Table = ScheduledSource.__table__  # type: ignore[attr-defined]
TURNS: Table = RunTurn.__table__  # type: ignore[attr-defined]
RUN_DELIVERIES: Table = RunDelivery.__table__  # type: ignore[attr-defined]
RUN_ROWS: Table = RunRow.__table__  # type: ignore[attr-defined]


def in_item_state(state: ItemState) -> Any:
    # A literal, not a parameter: only then does either database see that its partial index applies.
    return text(f"run_deliveries.state = '{state}'")
