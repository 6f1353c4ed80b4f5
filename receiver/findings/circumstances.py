"""Circumstances of a finding: other changes about the time at which its condition began."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, select

from receiver.database.database import Database
from receiver.findings import tallies
from receiver.findings.counting import RUNNING
from receiver.runs.actions import ACTIONS
from receiver.runs.tables import RUNS

#: The time before and after the beginning of a condition in which a change counts as a circumstance.
SHORTLY_BEFORE, SHORTLY_AFTER = timedelta(hours=1), timedelta(minutes=5)

#: The period in which earlier releases are searched.
RAN_BEFORE = timedelta(days=2)

#: Most runs and most actions up to that time that are examined, newest first; and most circumstances that are returned.
MOST_EXAMINED, MOST_CIRCUMSTANCES = 1_000, 20

#: Actions that change nothing that a rule could find.
UNRELATED = ("sign in", "sign out", "end session", "acknowledge finding", "ask")


class Circumstance(NamedTuple):
    """One change: a release, a run, or an action of a person."""

    at: datetime
    #: One sentence without its full stop.
    says: str
    #: The address of the API that shows more; None without one.
    link: str | None


def circumstances(database: Database, since: datetime) -> list[Circumstance]:
    """List releases, runs and people's actions about this time, the nearest to it first. Raises SQLAlchemy's error."""
    with database.read() as connection:
        found = [*_starts(connection, since), *_runs(connection, since), *_actions(connection, since)]
    return sorted(found, key=lambda each: (abs(each.at - since), each.at))[:MOST_CIRCUMSTANCES]


def _starts(connection: Connection, since: datetime) -> Iterator[Circumstance]:
    rows = tallies.details(connection, [""], RUNNING, since - RAN_BEFORE, since + SHORTLY_AFTER)
    first = min((row.first for row in rows), default=since)
    for row in rows:
        if row.first > max(first, since - SHORTLY_BEFORE):
            release = row.detail.partition(" ")[0]
            says = f"A process started with release {release} and other handlers, sources or code than before"
            yield Circumstance(row.first, says, "/api/v1/processes")


def _runs(connection: Connection, since: datetime) -> Iterator[Circumstance]:
    columns = (RUNS.c.id, RUNS.c.kind, RUNS.c.sources, RUNS.c.started_at, RUNS.c.started_by)
    # A run was planned before it was started.
    until = select(*columns).where(RUNS.c.planned_at <= since + SHORTLY_AFTER)
    newest = until.order_by(RUNS.c.id.desc()).limit(MOST_EXAMINED).subquery()
    near = select(newest).where(newest.c.started_at.between(since - SHORTLY_BEFORE, since + SHORTLY_AFTER))
    for row in connection.execute(near):
        of = f" of {', '.join(row.sources)}" if any(row.sources) else ""
        says = f"{row.started_by} started run {row.id}, a {row.kind}{of}"
        yield Circumstance(row.started_at, says, f"/api/v1/runs/{row.id}")


def _actions(connection: Connection, since: datetime) -> Iterator[Circumstance]:
    columns = (ACTIONS.c.at, ACTIONS.c.who, ACTIONS.c.via, ACTIONS.c.what, ACTIONS.c.run, ACTIONS.c.reason)
    until = select(*columns).where(ACTIONS.c.at <= since + SHORTLY_AFTER)
    newest = until.order_by(ACTIONS.c.id.desc()).limit(MOST_EXAMINED).subquery()
    # Actions on runs are left out, because the start of a run is a circumstance already.
    wanted = (newest.c.run.is_(None), newest.c.what.not_in(UNRELATED))
    near = select(newest).where(newest.c.at.between(since - SHORTLY_BEFORE, since + SHORTLY_AFTER), *wanted)
    for row in connection.execute(near):
        reason = f": {row.reason}" if row.reason else ""
        yield Circumstance(row.at, f"{row.who} did “{row.what}” by {row.via}{reason}", "/api/v1/actions")
