"""Followers: cursors in the change feed, each with its target and the process that serves it.

One process holds a follower at a time, and renews `seen_at` while it lives. Another process takes over when `seen_at`
has not changed for a lease by that process's monotonic clock, so a jump of the wall clock ends no lease.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Connection, RowMapping, Table, insert, select, update
from sqlmodel import Field, SQLModel

from receiver.database.columns import UtcDateTime
from receiver.errors import HookmirrorError
from receiver.worker.liveness import dead
from receiver.worker.processes import MOST_AHEAD


class Follower(SQLModel, table=True):
    """One cursor in the change feed, and the target of the changes after it."""

    __tablename__ = "followers"

    name: str = Field(primary_key=True)
    #: The target's URL without the parts that may be secret.
    target: str
    #: The kind of its host's addresses (`receiver.following.addresses`); empty until the name was first resolved.
    reach: str = ""
    #: Only changes of this table, and of this source; None for all.
    table: str | None = None
    source: str | None = None
    #: The last finished change: accepted, or put on the list of dead changes.
    seq: int = Field(sa_type=BigInteger)
    #: The mark of that change. After a restore, another change may have the same number.
    mark: str
    #: The process that serves the follower, or did when it ended unexpectedly, as `receiver.worker.liveness` names it;
    #: None after a stop.
    holder: str | None = None
    #: The holder's last sign of life.
    seen_at: datetime = Field(sa_type=UtcDateTime)
    #: The time since which the changes go to this target.
    began_at: datetime = Field(sa_type=UtcDateTime)
    #: The time at which the target last accepted a change.
    accepted_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    #: The reason for which the target currently accepts no change, and the time since which it does not.
    trouble: str | None = None
    trouble_since: datetime | None = Field(default=None, sa_type=UtcDateTime)


FOLLOWERS: Table = Follower.__table__  # type: ignore[attr-defined]


#: The age of a holder's last sign of life beyond which it counts as silent; it gives one every few seconds.
SILENT = timedelta(minutes=2)


class LeaseLost(HookmirrorError):
    """Raised when another process has taken the follower over."""


class FollowerForgotten(HookmirrorError):
    """Raised when a person has removed the follower while this process had it."""


class FeedPlace(NamedTuple):
    """A place in the change feed: after the change with this number and mark."""

    seq: int
    mark: str


def find(connection: Connection, name: str) -> RowMapping | None:
    """The follower with this name; None for an unknown name."""
    return connection.execute(select(FOLLOWERS).where(FOLLOWERS.c.name == name)).mappings().first()


def every(connection: Connection) -> Sequence[RowMapping]:
    """All followers, by name."""
    return connection.execute(select(FOLLOWERS).order_by(FOLLOWERS.c.name)).mappings().all()


def served(connection: Connection, now: datetime) -> list[str]:
    """The names of the followers that a process serves, which may be on another machine."""
    return [row["name"] for row in possibly_served(connection, now) if not is_silent(row["seen_at"], now)]


def possibly_served(connection: Connection, now: datetime) -> list[RowMapping]:
    """The followers that a process serves, or may serve on a machine whose clock is far ahead."""
    held = [row for row in every(connection) if row["holder"] is not None and now - SILENT <= row["seen_at"]]
    ended = set(dead(row["holder"] for row in held))
    return [row for row in held if row["holder"] not in ended]


def is_silent(seen_at: datetime, now: datetime) -> bool:
    """Whether a holder's last sign of life is too old, or from before the clock was set back."""
    return not now - SILENT <= seen_at <= now + MOST_AHEAD


def begin(connection: Connection, name: str, place: FeedPlace, columns: Mapping[str, Any], *, now: datetime) -> None:
    """Insert a follower. Raises `IntegrityError` if another process has just inserted it."""
    row = {"name": name, **place._asdict(), "began_at": now, "seen_at": now, **columns}
    connection.execute(insert(FOLLOWERS), [row])


def lock(connection: Connection, name: str) -> RowMapping | None:
    """Select the follower and lock it until the transaction ends."""
    found = select(FOLLOWERS).where(FOLLOWERS.c.name == name).with_for_update()
    return connection.execute(found).mappings().first()


def take(connection: Connection, name: str, holder: str, *, stale: datetime | None, now: datetime) -> RowMapping | None:
    """Take the lease on a follower and return its row; None while another process holds it.

    `stale` is a sign of life that the caller has seen unchanged for a whole lease.
    """
    row = lock(connection, name)
    if row is None:
        return None
    if row["holder"] not in (None, holder) and row["seen_at"] != stale and not dead([row["holder"]]):
        return None
    write(connection, name, {"holder": holder, "seen_at": now})
    return row


def write_held(connection: Connection, name: str, holder: str, columns: Mapping[str, Any]) -> None:
    """Change the follower, which stays locked. Raises `LeaseLost` if another process holds it."""
    held = update(FOLLOWERS).where(FOLLOWERS.c.name == name, FOLLOWERS.c.holder == holder).values(**columns)
    if connection.execute(held).rowcount == 0:
        raise LeaseLost(
            f"Another process has taken over the follower {name}, or the database was restored from an older state."
        )


def write(connection: Connection, name: str, columns: Mapping[str, Any]) -> None:
    """Change the follower without regard to its lease."""
    connection.execute(update(FOLLOWERS).where(FOLLOWERS.c.name == name).values(**columns))
