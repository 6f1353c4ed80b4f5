"""Leases of runs: one feeder at a time steps a run, and commits what each step did."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

import structlog
from sqlalchemy import Connection, RowMapping, select, text, update

from receiver.database.database import Database
from receiver.database.errors import retry_transaction
from receiver.errors import RunTaken
from receiver.runs.run_kind import Progress, RunView
from receiver.runs.runs import finish, locked
from receiver.runs.tables import RUNS, RunState
from receiver.worker.liveness import dead

log = structlog.get_logger(__name__)

#: How long a feeder may be silent before another one takes its run. A step of a reconcile waits for a slow API.
LEASE_DURATION = timedelta(minutes=2)

#: Runs that are planned or fed at once.
MOST_OPEN_RUNS = 100


class LeasedRun:
    """A run in the hands of one feeder: `receiver.runs.run_kind.RunLease`."""

    def __init__(self, database: Database, name: str, row: RowMapping, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._name = name
        self._clock = clock
        self.kind: str = row["kind"]
        self.run = _view(row)
        self._committed_at = monotonic()

    @property
    def must_show_life(self) -> bool:
        return monotonic() - self._committed_at > LEASE_DURATION.total_seconds() / 3

    @property
    def now(self) -> datetime:
        return self._clock()

    def commit(self, work: Callable[[Connection], Progress]) -> Progress:
        """Run `work`, and keep its progress, in one transaction. Raises `RunTaken`; see `RunLease`."""
        progress, self.run = retry_transaction(lambda: self._commit(work))
        self._committed_at = monotonic()
        return progress

    def note(self, trouble: str) -> None:
        """Say why the run does not move. Raises `RunTaken`."""
        held = self.run
        self.commit(lambda _: Progress(held.mark, trouble=trouble))

    def release(self) -> None:
        """Let another feeder have it at once."""
        mine = update(RUNS).where(RUNS.c.id == self.run.id, RUNS.c.fed_by == self._name)
        with self._database.write() as connection:
            connection.execute(mine.values(fed_by=None, fed_until=None))

    def _commit(self, work: Callable[[Connection], Progress]) -> tuple[Progress, RunView]:
        with self._database.write() as connection:
            row = locked(connection, self.run.id)
            if row["state"] != self.run.state or row["fed_by"] != self._name:
                raise RunTaken(f"Run {self.run.id} is {row['state']}, or another process steps it.")
            progress = work(connection)
            values = _values(row, progress) | {"fed_until": self._clock() + LEASE_DURATION}
            connection.execute(update(RUNS).where(RUNS.c.id == self.run.id).values(**values))
            if progress.is_last:
                self._end_stage(connection)
            view = _view(locked(connection, self.run.id))
        if progress.is_last:
            log.info(f"a run is {view.state}", run=view.id, total=view.total, **view.tally)
        return progress, view

    def _end_stage(self, connection: Connection) -> None:
        if self.run.state == RunState.RUNNING:
            finish(connection, self.run.id, RunState.DONE, now=self._clock())
            return
        planned = {"state": RunState.PLANNED.value, "fed_by": None, "fed_until": None}
        connection.execute(update(RUNS).where(RUNS.c.id == self.run.id).values(**planned))


def lease_run(database: Database, name: str, run: int, *, clock: Callable[[], datetime]) -> LeasedRun | None:
    """Take the run, if it is planned or fed at the moment and nobody else does; None otherwise."""
    now = clock()
    with database.read() as connection:
        row = connection.execute(select(RUNS).where(RUNS.c.id == run)).mappings().first()
    if row is None or not _may_take(row, name, now):
        return None
    was = RUNS.c.fed_by.is_(None) if row["fed_by"] is None else RUNS.c.fed_by == row["fed_by"]
    taking = update(RUNS).where(RUNS.c.id == run, RUNS.c.state == row["state"], was)
    with database.write() as connection:
        if not connection.execute(taking.values(fed_by=name, fed_until=now + LEASE_DURATION)).rowcount:
            return None
        return LeasedRun(database, name, locked(connection, run), clock)


def open_runs(database: Database) -> list[int]:
    """The runs that are being planned or fed, oldest first."""
    found = select(RUNS.c.id).where(text("state IN ('planning', 'running')")).order_by(RUNS.c.id).limit(MOST_OPEN_RUNS)
    with database.read() as connection:
        return list(connection.execute(found).scalars())


def _may_take(row: RowMapping, name: str, now: datetime) -> bool:
    if row["state"] not in (RunState.PLANNING, RunState.RUNNING):
        return False
    if row["fed_by"] in (None, name) or row["fed_until"] is None or dead([row["fed_by"]]):
        return True
    # A lease that ends later than any was given is from before the clock was set back.
    return not now <= row["fed_until"] <= now + 2 * LEASE_DURATION


def _values(row: RowMapping, progress: Progress) -> dict[str, Any]:
    tally = dict(row["tally"])
    for outcome, number in progress.tally.items():
        tally[outcome] = tally.get(outcome, 0) + number
    values: dict[str, Any] = {
        "mark": progress.mark,
        "done": row["done"] + progress.done,
        "tally": tally,
        "trouble": progress.trouble,
    }
    if progress.total is not None:
        values["total"] = progress.total
    if progress.sources is not None:
        values["sources"] = sorted(progress.sources)
    return values


def _view(row: RowMapping) -> RunView:
    named = {name: row[name] for name in RunView._fields}
    return RunView(**named | {"state": RunState(row["state"])})
