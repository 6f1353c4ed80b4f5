"""Measures how far each follower is behind the change feed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, RowMapping, func, select

from receiver.following import dead_changes, followers
from receiver.mirror.changes import CHANGES

#: The number of changes after the cursor that are examined.
MOST_LAG = 100_000


class Lag(NamedTuple):
    """The lag of one follower."""

    follower: RowMapping
    #: Number of its changes among the next `MOST_LAG` after its cursor.
    changes: int
    #: The age of the oldest of these in seconds. If none of them is its change, that of the first change behind them,
    #: which no change for it exceeds; 0 at the end of the feed.
    seconds: float
    #: Number of changes on its list: dead, waiting and due ones.
    dead: int
    waiting: int


def lags(connection: Connection, *, now: datetime) -> Iterator[Lag]:
    """Measure each follower, in the order of names."""
    counted = dead_changes.numbers(connection)
    for row in followers.every(connection):
        number, oldest = _behind(connection, row)
        seconds = 0.0 if oldest is None else max((now - oldest).total_seconds(), 0.0)
        of_it = {state: number for (name, state), number in counted.items() if name == row["name"]}
        dead = of_it.pop(dead_changes.DeadState.DEAD.value, 0)
        yield Lag(row, number, seconds, dead, sum(of_it.values()))


def waiting_since(connection: Connection, follower: RowMapping, now: datetime) -> datetime | None:
    """The time since which changes wait for a follower that no process serves; None if none waits.

    A time from before the clock was set back says nothing.

    Only the first such change is read: a follower that nobody forgets lies further behind with each change.
    """
    after = follower["seq"]
    first = select(CHANGES.c.recorded_at).where(CHANGES.c.seq.between(after + 1, after + MOST_LAG))
    first = first.where(*_wanted(CHANGES.c, follower)).order_by(CHANGES.c.seq).limit(1)
    recorded_at = connection.execute(first).scalar()
    if recorded_at is None:
        return None
    known = (each for each in (recorded_at, follower["seen_at"], follower["began_at"]) if each <= now)
    return max(known, default=now)


def _behind(connection: Connection, row: RowMapping) -> tuple[int, datetime | None]:
    later = select(CHANGES.c.table, CHANGES.c.source, CHANGES.c.recorded_at).where(CHANGES.c.seq > row["seq"])
    some = later.order_by(CHANGES.c.seq).limit(MOST_LAG).subquery()
    wanted = _wanted(some.c, row)
    found = connection.execute(select(func.count(), func.min(some.c.recorded_at)).where(*wanted)).one()
    if found[0] or not wanted:
        return found[0], found[1]
    unexamined = later.with_only_columns(CHANGES.c.recorded_at).order_by(CHANGES.c.seq).offset(MOST_LAG).limit(1)
    return 0, connection.execute(unexamined).scalar()


def _wanted(columns: Any, row: RowMapping) -> list[ColumnElement[bool]]:
    """The conditions on these columns of changes by which the follower chooses its changes."""
    return [columns[name] == row[name] for name in ("table", "source") if row[name] is not None]
