"""The table of reconcile, the keys that a walk has seen, and how a walk makes its transactions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from sqlalchemy import Connection, Table
from sqlmodel import Field, SQLModel

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


SEEN: Table = SeenKey.__table__  # type: ignore[attr-defined]
