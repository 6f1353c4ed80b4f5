"""Comparisons: the result of each source's latest reconcile, which shows whether webhooks are missing, and failures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, select

from receiver.database.damage import damage_of
from receiver.runs.reconcile import DATE_BACK, RECONCILE
from receiver.runs.schedule import BY_SCHEDULE, latest_reconciles
from receiver.runs.tables import RUNS, STARTED_RECONCILES, TURNS, RunState

#: The age up to which a reconcile is evidence, and the most runs that have dated news back that are examined.
TELLING, MOST_RUNS = timedelta(days=7), 1_000


class Comparison(NamedTuple):
    """The result of comparing a source with its mirror."""

    source: str
    at: datetime
    #: The rows that the source listed, and those that its list lacked and the brake left active; never fewer than the
    #: wrong ones.
    compared: int
    wrong: int
    #: Those of the wrong rows that the brake left active.
    braked: int


class FailedReconcile(NamedTuple):
    """A reconcile that its schedule began, and that was given up after its failures."""

    source: str
    began_at: datetime
    run: int
    trouble: str
    #: The run that has begun since and has not ended.
    next_run: int | None


def failed_reconciles(connection: Connection) -> Iterator[FailedReconcile]:
    """The latest reconciles by a schedule, if they failed. A person sees the failure of their own.

    A failure counts until the next reconcile has ended; otherwise, a source that fails each hour would seem well in
    between.
    """
    turns = select(*_BEGUN).join_from(TURNS, RUNS, RUNS.c.id == TURNS.c.run).where(TURNS.c.kind == RECONCILE)
    for turn in connection.execute(turns.order_by(TURNS.c.source)).all():
        if turn.started_by != BY_SCHEDULE.who or damage_of(turn.sources) is not None:
            continue
        is_running = turn.state == RunState.RUNNING
        latest = _one_before(connection, turn) if is_running else turn
        if latest is None or latest.state == RunState.DONE:
            continue
        if latest.started_by == BY_SCHEDULE.who and latest.trouble is not None:
            (source,) = turn.sources
            next_run = turn.id if is_running else None
            yield FailedReconcile(source, latest.started_at, latest.id, latest.trouble, next_run)


def _one_before(connection: Connection, run: Row[Any]) -> Row[Any] | None:
    """The reconcile of the same source that was begun before this one."""
    earlier = (STARTED_RECONCILES, RUNS.c.sources == run.sources, RUNS.c.id < run.id)
    return connection.execute(select(*_BEGUN).where(*earlier).order_by(RUNS.c.id.desc()).limit(1)).first()


_BEGUN = [RUNS.c[name] for name in ("id", "sources", "state", "started_by", "started_at", "trouble")]


def latest_dating_back(connection: Connection, after: datetime) -> dict[str, datetime]:
    """When the latest run began that has dated back all news from the future of a source, by source, since `after`."""
    found = select(RUNS.c.sources, RUNS.c.started_at).where(
        RUNS.c.kind.in_([RECONCILE, DATE_BACK]), RUNS.c.state == RunState.DONE.value, RUNS.c.started_at > after
    )
    latest: dict[str, datetime] = {}
    for sources, began in connection.execute(found.order_by(RUNS.c.id.desc()).limit(MOST_RUNS)):
        if damage_of(sources) is None:
            latest[sources[0]] = max(began, latest.get(sources[0], began))
    return latest


def latest_comparisons(connection: Connection, sources: Iterable[str], now: datetime) -> Iterator[Comparison]:
    """The latest comparison of each of these sources, if recent and not the source's first.

    A first reconcile fills the mirror with rows older than any webhook, so its repairs are no evidence about webhooks.
    Nor are the repairs of rows that the brake left active before, which a forced reconcile deactivates.
    """
    latest = latest_reconciles(connection, list(sources), _COMPARED, state=RunState.DONE, number=2)
    for source, runs in latest.items():
        if len(runs) == 2 and now - runs[0]["ended_at"] < TELLING:
            repaired, braked = (runs[0]["tally"].get(name, 0) for name in ("repaired", "braked"))
            known = runs[1]["tally"].get("braked", 0) if runs[0]["arguments"].get("force") else 0
            wrong = max(repaired - known, 0) + braked
            # The total lacks the rows that the run deactivated because the list lacks them.
            yield Comparison(source, runs[0]["ended_at"], max(runs[0]["total"] + braked, wrong), wrong, braked)


_COMPARED = [RUNS.c[name] for name in ("id", "ended_at", "total", "tally", "arguments")]
