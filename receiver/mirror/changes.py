"""The change feed: the mirror's own append-only log, in commit order.

A change is written in the transaction that changes the mirror. On PostgreSQL the numbers are drawn under a lock that is
held to the end of that transaction, so that no smaller number appears after a larger one. Polling `after=<seq>`
therefore returns every change exactly once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, NamedTuple, TypedDict

from sqlalchemy import BigInteger, Column, Connection, Dialect, Index, Select, Table, select, text
from sqlmodel import Field, SQLModel

from receiver import codec
from receiver.database.bulk import Statement, execute_all, insertions
from receiver.database.columns import Document, UtcDateTime, raw_columns
from receiver.database.database import Database
from receiver.database.pages import read_within
from receiver.database.sqlite.stored_types import RowNumber
from receiver.errors import NotThisFeed

#: The key of the advisory lock that puts the feed in commit order.
FEED_LOCK = 0x686F6F6B0001

#: The most changes that `follow` reads at once, and the most bytes of their JSON: parsed, it takes many times as much.
PAGE, PAGE_BYTES = 500, 1 << 20


class ChangedValues(Document):
    """The values of the columns that changed, by name."""

    shape: ClassVar[Any] = dict[str, Any]
    mend = "The row itself shows its present values."


class Change(SQLModel, table=True):
    """One applied change of one mirror row."""

    __tablename__ = "changes"
    __table_args__ = (
        Index("ix_changes_row", "table", "source", "external_id", "seq"),
        # Partial, because the changes of a reconcile have no delivery.
        Index(
            "ix_changes_delivery",
            "delivery_id",
            sqlite_where=text("delivery_id IS NOT NULL"),
            postgresql_where=text("delivery_id IS NOT NULL"),
        ),
        Index(
            "ix_changes_run",
            "run",
            "seq",
            sqlite_where=text("run IS NOT NULL"),
            postgresql_where=text("run IS NOT NULL"),
        ),
        {"sqlite_autoincrement": True},
    )

    #: Grows in commit order; numbers may be missing, changes never are.
    seq: int | None = Field(
        default=None, sa_column=Column(BigInteger().with_variant(RowNumber, "sqlite"), primary_key=True)
    )
    table: str
    source: str
    external_id: str
    #: `insert`, `update`, `deactivate` or `reactivate`.
    operation: str
    #: The old values of the visible columns that changed; empty for an insert.
    before: Any = Field(sa_type=ChangedValues)
    #: The new values of these columns.
    after: Any = Field(sa_type=ChangedValues)
    #: The delivery that brought the news; None for a reconcile.
    delivery_id: int | None = Field(default=None, sa_type=BigInteger)
    #: The time of the change at the source.
    changed_at: datetime = Field(sa_type=UtcDateTime)
    #: The time at which the change was committed to the mirror.
    recorded_at: datetime = Field(sa_type=UtcDateTime)
    #: The run that repaired the row; None for a delivery's news.
    run: int | None = Field(default=None, sa_type=BigInteger)


CHANGES: Table = Change.__table__  # type: ignore[attr-defined]


class RowChange(NamedTuple):
    """One change before it is recorded. The fields are the columns of `Change`."""

    table: str
    source: str
    external_id: str
    operation: str
    before: dict[str, Any]
    after: dict[str, Any]
    delivery_id: int | None
    changed_at: datetime


def operation_between(was_active: bool, is_active: bool) -> str:
    """The operation of a change of a row that was there."""
    if was_active == is_active:
        return "update"
    return "reactivate" if is_active else "deactivate"


def record(connection: Connection, changes: Sequence[RowChange], *, now: datetime, run: int | None = None) -> None:
    """Append the changes in this order, in the caller's transaction. `run` is the run that made the changes."""
    append(connection, recordings(connection.dialect, changes, now=now, run=run))


def recordings(
    dialect: Dialect, changes: Sequence[RowChange], *, now: datetime, run: int | None = None
) -> list[Statement]:
    """Make the statements that append the changes in this order. `run` is the run that made the changes."""
    besides: dict[str, Any] = {"recorded_at": now} if run is None else {"recorded_at": now, "run": run}
    names = (*RowChange._fields, *besides)
    return insertions(dialect, CHANGES, names, [(*change, *besides.values()) for change in changes])


def append(connection: Connection, recorded: Sequence[Statement]) -> None:
    """Run the statements of `recordings` in the caller's transaction, when it is its turn."""
    if recorded:
        _wait_for_turn(connection)
        execute_all(connection, recorded)


def of_run(connection: Connection, run: int, *, limit: int) -> list[RowChange]:
    """The first changes that the run made, oldest first."""
    columns = [CHANGES.c[name] for name in RowChange._fields]
    found = select(*columns).where(CHANGES.c.run == run).order_by(CHANGES.c.seq).limit(limit)
    return [RowChange(*row) for row in connection.execute(found)]


def after(database: Database, seq: int, *, limit: int) -> list[dict[str, Any]]:
    """Read at most `limit` changes after `seq`, oldest first, each with the columns of `Change`.

    Large changes reduce the number, but at least one is returned if there is one.
    """
    found: list[dict[str, Any]] = []
    size = 0
    for row in read_within(database, behind(seq), limit=limit, most_bytes=PAGE_BYTES):
        texts = {name: bytes(row[name]) for name in ("before", "after")}
        found.append({**row, **{name: codec.decode(text) for name, text in texts.items()}})
        size += sum(map(len, texts.values()))
        if size >= PAGE_BYTES:
            break
    return found


def behind(seq: int) -> Select[Any]:
    """Select the changes after `seq`, oldest first."""
    return select(*_PASSED_ON).where(CHANGES.c.seq > seq).order_by(CHANGES.c.seq)


def about(table: str, source: str, external_id: str) -> Select[Any]:
    """Select the changes of one row, newest first."""
    return (
        select(*_PASSED_ON)
        .where(CHANGES.c.table == table, CHANGES.c.source == source, CHANGES.c.external_id == external_id)
        .order_by(CHANGES.c.seq.desc())
    )


_PASSED_ON = raw_columns(CHANGES)


class FollowedChange(TypedDict):
    """A change for user programs, with the members that the API shows, in plain Python types."""

    seq: int
    table: str
    source: str
    external_id: str
    #: `insert`, `update`, `deactivate` or `reactivate`.
    operation: str
    #: Values as in JSON: a price is text with all its digits, and a fraction inside a document a `Decimal`.
    before: dict[str, Any]
    after: dict[str, Any]
    #: The id as text, as everywhere outside the database; None for a reconcile.
    delivery_id: str | None
    #: The time in UTC.
    changed_at: datetime
    recorded_at: datetime


def follow(
    database: Database, seq: int = 0, *, stopping: threading.Event | None = None, poll: float = 1.0
) -> Iterator[FollowedChange]:
    """Yield each change after `seq` exactly once and in commit order: first the existing ones, then new ones.

    To continue after a restart, store the `seq` of each finished change. The feed is polled every `poll` seconds, and
    the iterator ends when `stopping` is set. Raises `NotThisFeed` if `seq` lies beyond the end of the feed, as after a
    restore. Raises SQLAlchemy's error when the database does not answer: then call `follow` again with the last `seq`.
    """
    stopping = stopping or threading.Event()
    while not stopping.is_set():
        page = after(database, seq, limit=PAGE)
        for change in page:
            if stopping.is_set():
                return
            yield _plain(change)
            seq = change["seq"]
        if not page:
            _refuse_past_end(database, seq)
            stopping.wait(poll)


def feed_end(connection: Connection) -> int:
    """The number of the newest change; 0 if there is none."""
    return connection.execute(select(CHANGES.c.seq).order_by(CHANGES.c.seq.desc()).limit(1)).scalar() or 0


def _refuse_past_end(database: Database, seq: int) -> None:
    with database.read() as connection:
        end = feed_end(connection)
    if seq > end:
        raise NotThisFeed(
            f"The change feed ends with {end}, and {seq} lies beyond: this database is another one, or was "
            f"restored from an older state. Read the rows anew, and follow from {end}."
        )


def _plain(change: Mapping[str, Any]) -> FollowedChange:
    """Convert the change into plain types, because texts and names may have types of the database's library."""
    delivery = change["delivery_id"]
    return FollowedChange(
        seq=int(change["seq"]),
        table=str(change["table"]),
        source=str(change["source"]),
        external_id=str(change["external_id"]),
        operation=str(change["operation"]),
        before=change["before"],
        after=change["after"],
        delivery_id=None if delivery is None else str(delivery),
        changed_at=change["changed_at"],
        recorded_at=change["recorded_at"],
    )


def _wait_for_turn(connection: Connection) -> None:
    """Lock the numbering of the feed until the caller's transaction ends.

    Does nothing on SQLite, which has one writer at a time.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": FEED_LOCK})
