"""Measures how far each follower is behind the change feed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, func, or_, select

from receiver.following import dead_changes, followers
from receiver.following.followers import FOLLOWERS
from receiver.mirror.changes import CHANGES

#: The number of changes after the cursors that are examined, for all followers together.
MOST_LAG = 100_000

_LATER = CHANGES.alias("later")


class Lag(NamedTuple):
    """The lag of one follower."""

    follower: RowMapping
    #: Number of its changes among the next ones after its cursor that are examined.
    changes: int
    #: The age of the oldest of these in seconds. If none of them is its change, that of the first change behind them,
    #: which no change for it exceeds; 0 at the end of the feed.
    seconds: float
    #: Number of changes on its list: dead, waiting and due ones.
    dead: int
    waiting: int


def lags(connection: Connection, *, now: datetime) -> Iterator[Lag]:
    """Measure each follower, in the order of names."""
    listed: dict[str, dict[str, int]] = defaultdict(dict)
    for (name, state), number in dead_changes.numbers(connection).items():
        listed[name][state] = number
    rows = followers.every(connection)
    behind = _behind(connection, _most_of_each(connection, (row["seq"] for row in rows)))
    for row in rows:
        number, oldest = behind[row["name"]]
        seconds = 0.0 if oldest is None else max((now - oldest).total_seconds(), 0.0)
        dead = listed[row["name"]].pop(dead_changes.DeadState.DEAD.value, 0)
        yield Lag(row, number, seconds, dead, sum(listed[row["name"]].values()))


def waiting_since(connection: Connection, unserved: Collection[RowMapping], now: datetime) -> dict[str, datetime]:
    """The times since which changes wait for those followers, by name, that no process serves and for which some wait.

    A time from before the clock was set back says nothing.

    Only the first such change is read: a follower that nobody forgets lies further behind with each change.
    """
    by_name = {row["name"]: row for row in unserved}
    if not by_name:
        return {}
    most = _most_of_each(connection, (row["seq"] for row in unserved))
    first = select(CHANGES.c.recorded_at).where(*_wanted(most)).order_by(CHANGES.c.seq).limit(1)
    named = select(FOLLOWERS.c.name, first.correlate(FOLLOWERS).scalar_subquery())
    found = connection.execute(named.where(FOLLOWERS.c.name.in_(list(by_name))))
    return {name: _since(by_name[name], recorded_at, now) for name, recorded_at in found if recorded_at is not None}


def _since(follower: RowMapping, recorded_at: datetime, now: datetime) -> datetime:
    known = (each for each in (recorded_at, follower["seen_at"], follower["began_at"]) if each <= now)
    return max(known, default=now)


def _most_of_each(connection: Connection, cursors: Iterable[int]) -> int:
    """The number of changes after each cursor that are examined, so that all together are at most `MOST_LAG`.

    What one that is less far behind does not need is left to the others.
    """
    last = connection.execute(select(func.max(CHANGES.c.seq))).scalar() or 0
    distances = sorted(max(last - seq, 0) for seq in cursors)
    left = MOST_LAG
    for place, distance in enumerate(distances):
        share = max(left // (len(distances) - place), 1)
        if distance > share:
            return share
        left -= distance
    return MOST_LAG


def _behind(connection: Connection, most: int) -> dict[str, tuple[int, datetime | None]]:
    """By follower, its changes among the next `most` of the feed, and the time of the first one."""
    behind_these = _LATER.c.seq > FOLLOWERS.c.seq + most
    unexamined = select(_LATER.c.recorded_at).where(behind_these).order_by(_LATER.c.seq).limit(1).correlate(FOLLOWERS)
    counted = (
        select(FOLLOWERS.c.name, func.count(CHANGES.c.seq), func.min(CHANGES.c.recorded_at))
        .add_columns(unexamined.scalar_subquery())
        .select_from(FOLLOWERS.outerjoin(CHANGES, and_(*_wanted(most))))
        .group_by(FOLLOWERS.c.name, FOLLOWERS.c.seq)
    )
    return {name: (number, oldest or later) for name, number, oldest, later in connection.execute(counted)}


def _wanted(most: int) -> list[ColumnElement[bool]]:
    """The conditions on a change that the follower wants, among the next `most` after its cursor."""
    within = CHANGES.c.seq.between(FOLLOWERS.c.seq + 1, FOLLOWERS.c.seq + most)
    return [within, *(_is_chosen(name) for name in ("table", "source"))]


def _is_chosen(name: str) -> ColumnElement[bool]:
    return or_(FOLLOWERS.c[name].is_(None), FOLLOWERS.c[name] == CHANGES.c[name])
