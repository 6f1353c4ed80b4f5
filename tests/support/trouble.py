"""Faults of either database, made through a separate connection: refused rows, and locks that another program holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import text

from receiver.database.database import Database

#: Statements by system after which an insert is refused. The trigger is called `refuse`.
REFUSE = {
    "sqlite": [
        "CREATE TRIGGER refuse BEFORE INSERT ON {table} WHEN {row} BEGIN SELECT RAISE(ABORT, '{message}'); END",
    ],
    "postgresql": [
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE '{message}'; END$$",
        "CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW WHEN ({row}) EXECUTE FUNCTION refuse()",
    ],
}
ACCEPT = {"sqlite": ["DROP TRIGGER refuse"], "postgresql": ["DROP FUNCTION refuse CASCADE"]}

#: Statements by system after which an update of a delivery is refused. The trigger is called `refuse`.
REFUSE_CHANGE = {
    "sqlite": [
        "CREATE TRIGGER refuse BEFORE UPDATE ON deliveries WHEN {row} BEGIN SELECT RAISE(ABORT, 'not this one'); END",
    ],
    "postgresql": [
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'not this one'; END$$",
        "CREATE TRIGGER refuse BEFORE UPDATE ON deliveries FOR EACH ROW WHEN ({row}) EXECUTE FUNCTION refuse()",
    ],
}


@contextmanager
def refusing(database: Database, table: str, message: str, *, row: str = "1 = 1") -> Iterator[None]:
    """Make the database refuse inserts of rows for which the condition `row` is true; it may name `NEW`."""
    system = "postgresql" if database.is_postgresql else "sqlite"
    run_statements(database, REFUSE[system], table=table, row=row, message=message)
    yield
    run_statements(database, ACCEPT[system])


@contextmanager
def refusing_changes(database: Database, row: str) -> Iterator[None]:
    """Make the database refuse, from now on, to change a delivery for which `row` is true."""
    system = "postgresql" if database.is_postgresql else "sqlite"
    run_statements(database, REFUSE_CHANGE[system], row=row)
    yield


@contextmanager
def another_writer(database: Database) -> Iterator[None]:
    """Hold a lock that keeps all other connections from writing deliveries."""
    with database.write() as connection:
        if database.is_postgresql:
            connection.execute(text("LOCK TABLE deliveries IN EXCLUSIVE MODE"))
        yield


def run_statements(database: Database, statements: list[str], **parts: str) -> None:
    with database.write() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement.format(**parts))
