"""The table of the keys that a walk has seen, and the protocol of a walk's transactions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from sqlalchemy import Connection, Table
from sqlmodel import Field, SQLModel

from receiver.database.database import Database
from receiver.database.errors import retry_transaction

Result = TypeVar("Result")


class Transact(Protocol):
    """Runs work in one write transaction, and again if the database aborts it.

    A run supplies its own implementation, which stores the run's progress together with the work.
    """

    def __call__(self, work: Callable[[Connection], Result]) -> Result: ...


def transact_on(database: Database) -> Transact:
    """Make plain transactions of this database."""

    def transact(work: Callable[[Connection], Result]) -> Result:
        def write() -> Result:
            with database.write() as connection:
                return work(connection)

        return retry_transaction(write)

    return transact


def read_from(database: Database, question: Callable[[Connection], Result]) -> Result:
    """Ask the database a question, and again if the connection is lost."""

    def read() -> Result:
        with database.read() as connection:
            return question(connection)

    return retry_transaction(read)


class SeenKey(SQLModel, table=True):
    """One row in a source's list, as seen by one run."""

    __tablename__ = "seen"
    __table_args__ = {"sqlite_with_rowid": False}

    run: str = Field(primary_key=True)
    table: str = Field(primary_key=True)
    external_id: str = Field(primary_key=True)
    #: The last walk through the list, from 1, that contained the row; 0 for a row known only from a forecast.
    walk: int
    #: In a forecast, whether the run would leave the row active before it searches for missing rows; None if unchanged.
    active: bool | None = None


SEEN: Table = SeenKey.__table__  # type: ignore[attr-defined]
