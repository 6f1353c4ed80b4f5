"""Followers: who is handed the change feed on, how far each has come, and which process does it.

One process holds a follower at a time. It shows that it lives by renewing `seen_at`. Another one takes over when that
has stood still for a lease by its own monotonic clock, so that a clock that jumps takes nothing from anybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Connection, RowMapping, Table, insert, select, update
from sqlmodel import Field, SQLModel

from receiver.database.columns import UtcDateTime
from receiver.errors import HookmirrorError
from receiver.worker.liveness import dead


class Follower(SQLModel, table=True):
    """One cursor in the change feed, and where the changes behind it go."""

    __tablename__ = "followers"

    name: str = Field(primary_key=True)
    #: The URL, without what may be secret in it.
    target: str
    #: The kind of addresses that its host leads to (`receiver.following.addresses`); empty until that was asked.
    reach: str = ""
    #: Only changes of this table, and of this source; None for all.
    table: str | None = None
    source: str | None = None
    #: The last change that is done: accepted, or on the list of dead changes.
    seq: int = Field(sa_type=BigInteger)
    #: What tells that change from another one of the same number, as after a restore.
    mark: str
    #: Which process hands on, as `receiver.worker.liveness` names it; None between two of them.
    holder: str | None = None
    #: The holder's last sign of life.
    seen_at: datetime = Field(sa_type=UtcDateTime)
    began_at: datetime = Field(sa_type=UtcDateTime)
    #: When a change was last accepted.
    accepted_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    #: Why the target accepts nothing at the moment, and since when.
    trouble: str | None = None
    trouble_since: datetime | None = Field(default=None, sa_type=UtcDateTime)


FOLLOWERS: Table = Follower.__table__  # type: ignore[attr-defined]


class LeaseLost(HookmirrorError):
    """Another process hands on for this follower now."""


class FeedPlace(NamedTuple):
    """A place in the change feed: behind the change of this number, which has this mark."""

    seq: int
    mark: str


def find(connection: Connection, name: str) -> RowMapping | None:
    """The follower of this name."""
    return connection.execute(select(FOLLOWERS).where(FOLLOWERS.c.name == name)).mappings().first()


def every(connection: Connection) -> Sequence[RowMapping]:
    """All followers, by name."""
    return connection.execute(select(FOLLOWERS).order_by(FOLLOWERS.c.name)).mappings().all()


def begin(connection: Connection, name: str, place: FeedPlace, columns: Mapping[str, Any], *, now: datetime) -> None:
    """Write down a new follower. Raises `IntegrityError` if another process has just done so."""
    row = {"name": name, **place._asdict(), "began_at": now, "seen_at": now, **columns}
    connection.execute(insert(FOLLOWERS), [row])


def lock(connection: Connection, name: str) -> RowMapping | None:
    """The follower, which nobody else changes until the transaction has ended."""
    found = select(FOLLOWERS).where(FOLLOWERS.c.name == name).with_for_update()
    return connection.execute(found).mappings().first()


def take(connection: Connection, name: str, holder: str, *, stale: datetime | None, now: datetime) -> RowMapping | None:
    """Become the one who hands on; returns the follower, or None while another process does.

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
        raise LeaseLost(f"Another process hands on for the follower {name} now.")


def write(connection: Connection, name: str, columns: Mapping[str, Any]) -> None:
    """Change the follower, whoever holds it."""
    connection.execute(update(FOLLOWERS).where(FOLLOWERS.c.name == name).values(**columns))
