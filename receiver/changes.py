"""The change feed: the mirror's own append-only log, in commit order.

Written in the transaction that changes the mirror. On PostgreSQL the numbers are drawn under a lock that is held to
the end of that transaction, so that a smaller number never appears after a larger one: who polls `after=<seq>` sees
every change exactly once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, Index, Integer, RowMapping, Table, select, text
from sqlmodel import Field, SQLModel

from receiver.bulk import insert_mappings
from receiver.columns import Document, UtcDateTime
from receiver.database import Database

#: The key of the advisory lock that puts the feed in commit order.
FEED_LOCK = 0x686F6F6B0001


class Change(SQLModel, table=True):
    """One applied change of one mirror row."""

    __tablename__ = "changes"
    __table_args__ = (Index("ix_changes_row", "table", "source", "external_id", "seq"), {"sqlite_autoincrement": True})

    #: Grows in commit order; numbers may be missing, changes never are.
    seq: int | None = Field(
        default=None, sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    )
    table: str
    source: str
    external_id: str
    #: `insert`, `update`, `deactivate` or `reactivate`.
    operation: str
    #: The visible columns that changed, as they were; empty for an insert.
    before: Any = Field(sa_type=Document)
    #: The same columns as they are now.
    after: Any = Field(sa_type=Document)
    #: The delivery that brought the news; None for a reconcile.
    delivery_id: int | None = Field(default=None, sa_type=BigInteger)
    #: The time of the change at the source.
    changed_at: datetime = Field(sa_type=UtcDateTime)
    #: When the mirror took it in.
    recorded_at: datetime = Field(sa_type=UtcDateTime)


CHANGES: Table = Change.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class RowChange:
    """One change before it is recorded: see `Change` for the fields."""

    table: str
    source: str
    external_id: str
    operation: str
    before: dict[str, Any]
    after: dict[str, Any]
    delivery_id: int | None
    changed_at: datetime


def record(connection: Connection, changes: Sequence[RowChange], *, now: datetime) -> None:
    """Append the changes, in their order, as part of the caller's transaction."""
    if not changes:
        return
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": FEED_LOCK})
    rows = [
        {
            "table": change.table,
            "source": change.source,
            "external_id": change.external_id,
            "operation": change.operation,
            "before": change.before,
            "after": change.after,
            "delivery_id": change.delivery_id,
            "changed_at": change.changed_at,
            "recorded_at": now,
        }
        for change in changes
    ]
    insert_mappings(connection, CHANGES, rows)


def after(database: Database, seq: int, *, limit: int) -> Sequence[RowMapping]:
    """The changes that follow `seq`, oldest first, at most `limit`."""
    statement = select(CHANGES).where(CHANGES.c.seq > seq).order_by(CHANGES.c.seq).limit(limit)
    with database.read() as connection:
        return connection.execute(statement).mappings().all()


def history(database: Database, table: str, source: str, external_id: str, *, limit: int) -> Sequence[RowMapping]:
    """The changes of one row, newest first, at most `limit`."""
    statement = (
        select(CHANGES)
        .where(CHANGES.c.table == table, CHANGES.c.source == source, CHANGES.c.external_id == external_id)
        .order_by(CHANGES.c.seq.desc())
        .limit(limit)
    )
    with database.read() as connection:
        return connection.execute(statement).mappings().all()
