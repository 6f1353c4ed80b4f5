"""The tables of reconcile: how far each source's walk is, and the keys that a walk has seen."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Table, false
from sqlmodel import Field, SQLModel

from receiver.database.columns import Document, UtcDateTime
from receiver.database.database import Database
from receiver.database.errors import retry_transaction

Result = TypeVar("Result")


class Transact(Protocol):
    """Runs work in one transaction that writes, again where the database breaks it off.

    Who watches a walk as a run gives one of its own, which keeps the run's progress along with the work.
    """

    def __call__(self, work: Callable[[Connection], Result]) -> Result: ...


def transact_on(database: Database) -> Transact:
    """Transactions of this database, and nothing else in them."""

    def transact(work: Callable[[Connection], Result]) -> Result:
        def write() -> Result:
            with database.write() as connection:
                return work(connection)

        return retry_transaction(write)

    return transact


class SeenKey(SQLModel, table=True):
    """One row that the list of a source named during one run."""

    __tablename__ = "seen"
    __table_args__ = {"sqlite_with_rowid": False}

    run: str = Field(primary_key=True)
    table: str = Field(primary_key=True)
    external_id: str = Field(primary_key=True)
    #: The last walk through the list, from 1, that named it; 0 for a row that only a forecast is about.
    walk: int
    #: In a forecast, whether the run would leave the row active before it looks for what is missing; None if unchanged.
    active: bool | None = None


class Reconciliation(SQLModel, table=True):
    """The latest reconcile of one source: a row is what one process at a time holds."""

    __tablename__ = "reconciles"

    source: str = Field(primary_key=True)
    #: When the source was first heard of: a schedule misses nothing that was due before.
    noticed_at: datetime = Field(sa_type=UtcDateTime)
    run: str | None = None
    #: The process that walks, and until when it may stay silent; None when none does.
    holder: str | None = None
    lease_until: datetime | None = Field(default=None, sa_type=UtcDateTime)
    #: How far it is; after the end, what it found.
    mark: dict[str, Any] | None = Field(default=None, sa_type=Document)
    #: Whether the schedule began it.
    scheduled: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    began_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    #: None while it is under way, or broke off and can be resumed.
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    #: Why it broke off.
    error: str | None = None


SEEN: Table = SeenKey.__table__  # type: ignore[attr-defined]
RECONCILES: Table = Reconciliation.__table__  # type: ignore[attr-defined]
