"""Leases of runs: one feeder at a time steps a run, and commits each step's work with its progress."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

import structlog
from sqlalchemy import Connection, RowMapping, select, text, update
from sqlalchemy.exc import SQLAlchemyError

from receiver.database.damage import damage_of, read_choice
from receiver.database.database import Database
from receiver.database.errors import retry_transaction
from receiver.errors import RunTaken
from receiver.logs.safe_text import told
from receiver.runs.actions import note_count
from receiver.runs.run_kind import Progress, RunView
from receiver.runs.runs import finish, locked, thing_of
from receiver.runs.tables import RUNS, RunState
from receiver.worker.liveness import dead

log = structlog.get_logger(__name__)

#: The most runs that are stepped in the same period.
MOST_OPEN_RUNS = 100

#: The most times that a lease is renewed in one step, each after a third of it: a step that hangs then loses it.
MOST_RENEWALS = 45

#: The columns of a run that only its feeder changes.
PROGRESS = ("mark", "total", "done", "tally")


class LeasedRun:
    """The lease of one feeder on a run; implements `receiver.runs.run_kind.RunLease`."""

    def __init__(
        self, database: Database, name: str, row: RowMapping, lease: timedelta, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._name = name
        self._lease, self._clock = lease, clock
        self.kind: str = row["kind"]
        self.run = _view(row)
        #: The monotonic time of the last commit, or of the beginning of the lease.
        self.committed_at = monotonic()

    @property
    def must_show_life(self) -> bool:
        return monotonic() - self.committed_at > self._lease.total_seconds() / 3

    @property
    def now(self) -> datetime:
        return self._clock()

    def commit(self, work: Callable[[Connection], Progress]) -> Progress:
        """Run `work` and store its progress in one transaction. Raises `RunTaken`; see `RunLease`."""
        tried: list[Progress] = []
        progress, self.run = retry_transaction(lambda: self._commit(work, tried))
        self.committed_at = monotonic()
        return progress

    @contextmanager
    def renewing(self) -> Iterator[None]:
        """Renew the lease during the block; see `RunLease`."""
        is_over = threading.Event()

        def renew() -> None:
            for _ in range(MOST_RENEWALS):
                if is_over.wait(self._lease.total_seconds() / 3):
                    return
                try:
                    self._renew()
                except SQLAlchemyError as error:
                    log.debug("cannot renew the lease of a run; trying again", run=self.run.id, error=told(error))

        thread = threading.Thread(target=renew, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    def _renew(self) -> None:
        mine = update(RUNS).where(RUNS.c.id == self.run.id, RUNS.c.fed_by == self._name)
        with self._database.write() as connection:
            connection.execute(mine.values(fed_until=self._clock() + self._lease))

    def note(self, trouble: str) -> None:
        """Store on the run the reason why it does not progress. Raises `RunTaken`."""
        held = self.run
        self.commit(lambda _: Progress(held.mark, trouble=trouble))

    def break_off(self, trouble: str) -> None:
        """Pause the run, or cancel its plan, and store the reason. Raises `RunTaken`."""
        given: dict[str, Any] = {"trouble": trouble, "fed_by": None, "fed_until": None, "state": RunState.PAUSED.value}
        if self.run.state is RunState.PLANNING:
            given |= {"state": RunState.CANCELLED.value, "ended_at": self._clock()}

        def pause() -> None:
            with self._database.write() as connection:
                self._check(locked(connection, self.run.id))
                connection.execute(update(RUNS).where(RUNS.c.id == self.run.id).values(**given))

        retry_transaction(pause)

    def release(self) -> None:
        """Release the lease, so that another feeder can continue at once."""
        mine = update(RUNS).where(RUNS.c.id == self.run.id, RUNS.c.fed_by == self._name)
        with self._database.write() as connection:
            connection.execute(mine.values(fed_by=None, fed_until=None))

    def _commit(self, work: Callable[[Connection], Progress], tried: list[Progress]) -> tuple[Progress, RunView]:
        """Commit the work, unless an earlier try was committed; `tried` receives the progress of each try."""
        with self._database.write() as connection:
            row = locked(connection, self.run.id)
            if tried and self._was_committed(row, tried[-1]):
                # The connection was lost after the commit, before its answer. `work` began from the view before it.
                return tried[-1], _view(row)
            self._check(row)
            progress = work(connection)
            tried.append(progress)
            values = _values(row, progress) | {"fed_until": self._clock() + self._lease}
            connection.execute(update(RUNS).where(RUNS.c.id == self.run.id).values(**values))
            if progress.is_last:
                self._end_stage(connection, progress)
            view = _view(locked(connection, self.run.id))
        if progress.is_last:
            of = ", ".join(view.sources)
            log.info(f"a run is {view.state}", run=view.id, source=of, total=view.total, **view.tally)
        return progress, view

    def _was_committed(self, row: RowMapping, progress: Progress) -> bool:
        """Whether a try with this progress was committed. A repetition of one without progress does no harm."""
        if progress.is_last:
            return row["state"] in (RunState.DONE, RunState.PLANNED)
        is_changed = any(row[name] != getattr(self.run, name) for name in PROGRESS)
        return is_changed and row["fed_by"] == self._name

    def _check(self, row: RowMapping) -> None:
        """Raise `RunTaken` if the run was paused, cancelled or taken over."""
        if row["state"] != self.run.state or row["fed_by"] != self._name:
            raise RunTaken(f"Run {self.run.id} is {row['state']}, or another process steps it.")

    def _end_stage(self, connection: Connection, last: Progress) -> None:
        if self.run.state == RunState.RUNNING:
            finish(connection, self.run.id, RunState.DONE, now=self._clock(), trouble=last.trouble)
            return
        total = locked(connection, self.run.id)["total"]
        note_count(connection, self.run.id, total, thing_of(self.kind))
        planned = {"state": RunState.PLANNED.value, "fed_by": None, "fed_until": None}
        connection.execute(update(RUNS).where(RUNS.c.id == self.run.id).values(**planned))


def lease_run(
    database: Database,
    name: str,
    run: int,
    *,
    lease_for: Callable[[str, Sequence[str]], timedelta | None],
    clock: Callable[[], datetime],
) -> LeasedRun | None:
    """Lease the run if it needs planning or feeding and no other process holds it; None otherwise.

    `lease_for` returns the length of the lease for a kind and its sources; None if this process cannot step the run.
    """
    now = clock()
    with database.read() as connection:
        row = connection.execute(select(RUNS).where(RUNS.c.id == run)).mappings().first()
    lease = None if row is None else lease_for(row["kind"], row["sources"])
    if row is None or lease is None or not _may_take(row, name, lease, now):
        return None
    was = RUNS.c.fed_by.is_(None) if row["fed_by"] is None else RUNS.c.fed_by == row["fed_by"]
    taking = update(RUNS).where(RUNS.c.id == run, RUNS.c.state == row["state"], was)
    with database.write() as connection:
        if not connection.execute(taking.values(fed_by=name, fed_until=now + lease)).rowcount:
            return None
        return LeasedRun(database, name, locked(connection, run), lease, clock)


def open_runs(database: Database) -> list[int]:
    """The runs that are being planned or fed, oldest first."""
    found = select(RUNS.c.id).where(text("state IN ('planning', 'running')")).order_by(RUNS.c.id).limit(MOST_OPEN_RUNS)
    with database.read() as connection:
        return list(connection.execute(found).scalars())


def with_expired_lease(connection: Connection, now: datetime) -> list[tuple[int, str, Sequence[str], datetime]]:
    """Id, kind, sources and end of the lease of each run at work whose feeder has not renewed its lease."""
    found = (
        select(RUNS.c.id, RUNS.c.kind, RUNS.c.sources, RUNS.c.fed_until)
        .where(text("state IN ('planning', 'running')"), RUNS.c.fed_until < now)
        .order_by(RUNS.c.id)
        .limit(MOST_OPEN_RUNS)
    )
    rows = connection.execute(found).all()
    return [(row.id, row.kind, () if damage_of(row.sources) else row.sources, row.fed_until) for row in rows]


def is_held(row: RowMapping, lease: timedelta, now: datetime) -> bool:
    """Whether an unexpired lease of a feeder holds the run."""
    if row["fed_by"] is None or row["fed_until"] is None or dead([row["fed_by"]]):
        return False
    # A lease that ends later than any granted now dates from before the clock was set back.
    return bool(now <= row["fed_until"] <= now + 2 * lease)


def _may_take(row: RowMapping, name: str, lease: timedelta, now: datetime) -> bool:
    is_open = row["state"] in (RunState.PLANNING, RunState.RUNNING)
    return is_open and (row["fed_by"] == name or not is_held(row, lease, now))


def _values(row: RowMapping, progress: Progress) -> dict[str, Any]:
    tally: dict[str, int] = {} if damage_of(row["tally"]) else dict(row["tally"])
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
    if damage_of(row["tally"]):
        named["tally"] = {}
    return RunView(**named | {"state": read_choice(RunState, row["state"])})
