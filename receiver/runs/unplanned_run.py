"""Begins a new unplanned run of one source, or resumes a failed one, in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select

from receiver.errors import RunConflict
from receiver.moments import time_text
from receiver.runs.actions import Asked, Done, Effect, perform
from receiver.runs.leases import is_held
from receiver.runs.runs import Verbs, be_alone, finish, locked, new_run, set_state
from receiver.runs.tables import RUNS, TURNS, RunState


@dataclass(frozen=True, slots=True, kw_only=True)
class UnplannedRun:
    """The conditions on which an unplanned run of one source is begun."""

    kind: str
    source: str
    #: The length of the feeder's lease.
    lease: timedelta
    #: The feeder that steps the run from the beginning; None for the next feeder that polls.
    held_by: str | None = None
    #: Whether to resume a failed or abandoned run with the same arguments.
    goes_on: bool = True
    #: Called inside the transaction: whether the run is still wanted.
    is_wanted: Callable[[Connection], bool] = lambda _: True


def begin_run(verbs: Verbs, asked: Asked, wanted: UnplannedRun, *, now: datetime) -> Done | None:
    """Begin or resume the run; None if it is not wanted. The result has the run's number, and whether it was resumed.

    Raises `RunConflict` while another run of this kind is at work on the source, or was paused by a person.
    """
    return perform(verbs.database, asked, lambda connection: _begin(connection, verbs, asked, wanted, now), now=now)


def _begin(connection: Connection, verbs: Verbs, asked: Asked, wanted: UnplannedRun, now: datetime) -> Effect | None:
    be_alone(connection)
    if not wanted.is_wanted(connection):
        return None
    holding: dict[str, Any] = {"fed_by": wanted.held_by}
    holding["fed_until"] = None if wanted.held_by is None else now + wanted.lease
    turn = (TURNS.c.kind == wanted.kind, TURNS.c.source == wanted.source)
    other = connection.execute(select(TURNS.c.run).where(*turn)).scalar()
    if other is not None:
        row = locked(connection, other)
        _refuse_beside(row, wanted, now)
        if wanted.goes_on and row["arguments"] == dict(asked.arguments):
            set_state(connection, other, RunState.RUNNING, trouble=None, **holding)
            return _effect(other, is_resumed=True)
        failure = row["trouble"] if row["state"] == RunState.PAUSED else None
        finish(connection, other, RunState.CANCELLED, now=now, trouble=failure)
    values = new_run(wanted.kind, asked, [wanted.source], verbs.wiring, now)
    values |= {"state": RunState.RUNNING.value, "total": 0, "reason": asked.reason, **holding}
    values |= {"started_by": asked.by.who, "started_at": now}
    run = int(connection.execute(insert(RUNS).values(**values).returning(RUNS.c.id)).scalar_one())
    connection.execute(insert(TURNS).values(kind=wanted.kind, source=wanted.source, run=run))
    return _effect(run, is_resumed=False)


def _refuse_beside(row: RowMapping, wanted: UnplannedRun, now: datetime) -> None:
    if row["state"] == RunState.PAUSED and row["trouble"] is None:
        raise RunConflict(
            f"Run {row['id']}, a {row['kind']} of {wanted.source}, is paused: resume it by `hookmirror runs "
            f"resume {row['id']}`, or end it by `hookmirror runs cancel {row['id']}`."
        )
    # A transaction whose answer was lost is repeated, and finds the run that it has begun.
    is_own = wanted.held_by is not None and row["fed_by"] == wanted.held_by
    if row["state"] == RunState.RUNNING and not is_own and is_held(row, wanted.lease, now):
        raise RunConflict(
            f"{wanted.source} is being reconciled already, by run {row['id']} since {time_text(row['started_at'])}: "
            f"wait for its end; `hookmirror runs show {row['id']}` shows its progress."
        )


def _effect(run: int, *, is_resumed: bool) -> Effect:
    result = {"run": str(run), "state": RunState.RUNNING.value, "resumed": is_resumed}
    return Effect(0, result, run=run, thing="row", wants_reason=False)
