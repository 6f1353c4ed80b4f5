"""Runs: the verbs that plan, start, pause, resume and cancel a run, each in one transaction that records an action."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import structlog
from sqlalchemy import Connection, RowMapping, Select, delete, func, insert, select, text, update

from receiver.database.database import Database
from receiver.errors import NotFound, ReasonWanted, RunConflict
from receiver.moments import time_text
from receiver.release import release
from receiver.runs.actions import COUNTED_DELIVERY, Asked, Done, Effect, perform
from receiver.runs.outdated import why_outdated
from receiver.runs.tables import OVER, RUN_DELIVERIES, RUNS, TURNS, ItemState, RunState, in_item_state
from receiver.worker.processes import Kind, Wiring, running

log = structlog.get_logger(__name__)

#: The key of the advisory lock under which runs are started and fed on PostgreSQL.
RUNS_LOCK = 0x686F6F6B0006

#: The kinds of runs that count deliveries; the others count rows.
COUNT_DELIVERIES = ("replay", "prune")

#: The reason stored on deliveries that were in progress when their run was cancelled.
LEFT_ALONE = "The run was cancelled while this delivery was in progress: it continues by itself."


class Holder(NamedTuple):
    """A feeder that steps a run from the beginning, and the length of its lease on the run."""

    name: str
    lease: timedelta


@dataclass(frozen=True, slots=True)
class Verbs:
    """Plans, starts, pauses, resumes and cancels runs of one database, with the wiring of this process."""

    database: Database
    wiring: Wiring

    def plan(
        self,
        asked: Asked,
        kind: str,
        *,
        ids: Sequence[int] = (),
        sources: Sequence[str] = (),
        held_by: Holder | None = None,
        now: datetime,
    ) -> Done:
        """Begin to plan a run of these deliveries, or of those that `asked.arguments` describe. Nothing changes yet.

        The result names the run. Then `held_by`, or without it the next feeder that polls, freezes and forecasts its
        set.
        """

        def begin(connection: Connection) -> Effect:
            values = new_run(kind, asked, sources, self.wiring, now) | {"total": len(ids)}
            if held_by is not None:
                values |= {"fed_by": held_by.name, "fed_until": now + held_by.lease}
            run = int(connection.execute(insert(RUNS).values(**values).returning(RUNS.c.id)).scalar_one())
            if ids:
                items = [{"run": run, "delivery_id": each, "state": ItemState.WAITING.value} for each in sorted(ids)]
                connection.execute(insert(RUN_DELIVERIES), items)
            result = {"run": str(run), "state": RunState.PLANNING.value}
            return Effect(len(ids), result, run=run, thing=thing_of(kind), wants_reason=False)

        done = certain(perform(self.database, asked, begin, now=now))
        log.info("a run is being planned", run=done.result.get("run"), kind=kind, by=asked.by.who)
        return done

    def start(self, asked: Asked, run: int, *, now: datetime) -> Done:
        """Start a planned run; a feeder then steps it, giving way to live work.

        Raises `RunConflict` if it is not planned, its plan is outdated, or another run of its kind is at work on one
        of its sources; `ReasonWanted` without a reason.
        """

        if asked.reason is None:
            raise ReasonWanted(
                "A start needs a reason: give one of 3 to 200 characters, so that it can be understood later."
            )

        def begin(connection: Connection) -> Effect:
            be_alone(connection)
            row = locked(connection, run)
            self._refuse_start(connection, row, now)
            for source in row["sources"]:
                connection.execute(insert(TURNS).values(kind=row["kind"], source=source, run=run))
            started = {"started_by": asked.by.who, "started_at": now, "reason": asked.reason, "mark": None}
            set_state(connection, run, RunState.RUNNING, **started)
            return _effect(row, RunState.RUNNING, count=row["total"])

        return self._change("started", asked, run, begin, now)

    def pause(self, asked: Asked, run: int, *, now: datetime) -> Done:
        """Stop feeding until the run is resumed; fed deliveries continue. Raises `RunConflict` unless it is running."""

        def stop(connection: Connection) -> Effect:
            row = locked(connection, run)
            _demand(row, "paused", RunState.RUNNING)
            # If its `trouble` stayed, the run would look as if it had failed.
            set_state(connection, run, RunState.PAUSED, fed_by=None, fed_until=None, trouble=None)
            return _effect(row, RunState.PAUSED)

        return self._change("paused", asked, run, stop, now)

    def resume(self, asked: Asked, run: int, *, now: datetime) -> Done:
        """Resume a paused run. Raises `RunConflict` unless it is paused."""

        def go_on(connection: Connection) -> Effect:
            row = locked(connection, run)
            _demand(row, "resumed", RunState.PAUSED)
            set_state(connection, run, RunState.RUNNING, trouble=None)
            return _effect(row, RunState.RUNNING)

        return self._change("resumed", asked, run, go_on, now)

    def cancel(self, asked: Asked, run: int, *, now: datetime, only_plan: bool = False) -> Done:
        """End a run for good; fed deliveries continue, the others stay.

        Raises `RunConflict` if it has ended; with `only_plan`, also if it was started.
        """

        def end(connection: Connection) -> Effect:
            row = locked(connection, run)
            if only_plan:
                _demand(row, "dropped as a plan", RunState.PLANNING, RunState.PLANNED)
            _demand(row, "cancelled", *(state for state in RunState if state not in OVER))
            finish(connection, run, RunState.CANCELLED, now=now)
            return _effect(row, RunState.CANCELLED)

        return self._change("cancelled", asked, run, end, now)

    def _change(self, verb: str, asked: Asked, run: int, effect: Any, now: datetime) -> Done:
        done = certain(perform(self.database, asked, effect, now=now))
        if not done.again:
            log.info(f"a run was {verb}", run=run, by=asked.by.who, reason=asked.reason)
        return done

    def _refuse_start(self, connection: Connection, row: RowMapping, now: datetime) -> None:
        _demand(row, "started", RunState.PLANNED)
        outdated = why_outdated(connection, row, self.wiring, now)
        if outdated is not None:
            raise RunConflict(outdated)
        busy = select(TURNS.c.run).where(TURNS.c.kind == row["kind"], TURNS.c.source.in_(row["sources"])).limit(1)
        other = connection.execute(busy).scalar()
        if other is not None:
            raise RunConflict(
                f"Run {other} is a {row['kind']} of the same source and has not ended: wait for it, or cancel it with "
                f"`hookmirror runs cancel {other}`."
            )


def find(connection: Connection, run: int) -> RowMapping:
    """The run with this id. Raises `NotFound` for an unknown id."""
    return _found(connection.execute(select(RUNS).where(RUNS.c.id == run)).mappings().first(), run)


def locked(connection: Connection, run: int) -> RowMapping:
    """Select the run and lock it until the transaction ends. Raises `NotFound`."""
    return _found(connection.execute(select(RUNS).where(RUNS.c.id == run).with_for_update()).mappings().first(), run)


def recent(*, before: int | None = None) -> Select[Any]:
    """Select runs with ids below `before`, newest first."""
    found = select(RUNS).order_by(RUNS.c.id.desc())
    return found if before is None else found.where(RUNS.c.id < before)


class StartedRun(NamedTuple):
    """What a chart shows of a run."""

    id: int
    kind: str
    sources: Sequence[str]
    started_at: datetime


def newest_started(connection: Connection, *, limit: int) -> list[StartedRun]:
    """Those of the newest runs that were started."""
    rows = connection.execute(select(*_STARTED).order_by(RUNS.c.id.desc()).limit(limit)).all()
    return [StartedRun(*row) for row in rows if row.started_at is not None]


_STARTED = [RUNS.c[name] for name in StartedRun._fields]


def finish(connection: Connection, run: int, state: RunState, *, now: datetime, trouble: str | None = None) -> None:
    """End the run, so that its sources may have another one of the same kind; `trouble` is the reason of a failure."""
    connection.execute(delete(TURNS).where(TURNS.c.run == run))
    for left in (ItemState.FED, ItemState.RETRYING):
        # Otherwise these deliveries would count as deliveries of a run at work for as long as the run is kept.
        going_on = update(RUN_DELIVERIES).where(RUN_DELIVERIES.c.run == run, in_item_state(left))
        connection.execute(going_on.values(state=ItemState.ENDED.value, reason=LEFT_ALONE))
    set_state(connection, run, state, ended_at=now, fed_by=None, fed_until=None, trouble=trouble)


def has_worker(database: Database, *, now: datetime) -> bool:
    """Whether a process with a worker, which feeds runs, is alive."""
    with database.read() as connection:
        return any(Kind(process["kind"]).works for process in running(connection, now))


def counts(connection: Connection) -> Mapping[str, int]:
    """The number of unfinished runs by state."""
    found = select(RUNS.c.state, func.count()).where(RUNS.c.state.not_in([str(state) for state in OVER]))
    return {row.state: row[1] for row in connection.execute(found.group_by(RUNS.c.state))}


def left(connection: Connection) -> int:
    """The number of deliveries and rows that the runs at work still have to process, as far as it is known."""
    at_work = RUNS.c.state.in_([RunState.RUNNING.value, RunState.PAUSED.value])
    return int(connection.execute(select(func.sum(RUNS.c.total - RUNS.c.done)).where(at_work)).scalar() or 0)


def thing_of(kind: str) -> str:
    """The noun that runs of this kind count."""
    return COUNTED_DELIVERY if kind in COUNT_DELIVERIES else "row"


def new_run(kind: str, asked: Asked, sources: Sequence[str], wiring: Wiring, now: datetime) -> dict[str, Any]:
    return {
        "kind": kind,
        "sources": sorted(sources),
        "arguments": dict(asked.arguments),
        "state": RunState.PLANNING.value,
        "done": 0,
        "tally": {},
        "release": release(),
        "wiring": wiring.fingerprint,
        "planned_by": asked.by.who,
        "planned_at": now,
    }


def _found(row: RowMapping | None, run: int) -> RowMapping:
    if row is None:
        raise NotFound(f"There is no run {run}: `/api/v1/runs` lists them.", names=("/api/v1/runs",))
    return row


def _demand(row: RowMapping, verb: str, *states: RunState) -> None:
    """Raise `RunConflict`, with the run's state in its message, unless the run is in one of these states."""
    if row["state"] in states:
        return
    by = f", started by {row['started_by']} at {time_text(row['started_at'])}" if row["started_by"] else ""
    stands = "still being planned" if row["state"] == RunState.PLANNING else row["state"]
    raise RunConflict(f"Run {row['id']} is {stands}{by}, so it cannot be {verb}.")


def set_state(connection: Connection, run: int, state: RunState, **values: Any) -> None:
    connection.execute(update(RUNS).where(RUNS.c.id == run).values(state=state.value, **values))


def _effect(row: RowMapping, state: RunState, *, count: int | None = None) -> Effect:
    """The effect of a change of the run's state, of which only a start requires a reason."""
    result = {"run": str(row["id"]), "state": state.value}
    concerned = row["total"] - row["done"] if count is None else count
    thing = thing_of(row["kind"])
    return Effect(concerned, result, run=row["id"], thing=thing, wants_reason=count is not None)


def certain(done: Done | None) -> Done:
    assert done is not None
    return done


def be_alone(connection: Connection) -> None:
    """Lock against other starts and slices until the transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": RUNS_LOCK})
