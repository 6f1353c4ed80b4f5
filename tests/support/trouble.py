"""Trouble with either database, made from beside: rows that it refuses, and locks that others hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import text

from receiver.database.database import Database

#: What refuses a row, by system. The trigger's name is `refuse`.
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

#: What refuses to change a row, by system. The trigger's name is `refuse`.
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
    """The database refuses to insert into the table what fulfils the condition `row`, which may name `NEW`."""
    system = "postgresql" if database.is_postgresql else "sqlite"
    run_statements(database, REFUSE[system], table=table, row=row, message=message)
    yield
    run_statements(database, ACCEPT[system])


@contextmanager
def refusing_changes(database: Database, row: str) -> Iterator[None]:
    """The database refuses to change, from now on, a delivery for which `row` is true."""
    system = "postgresql" if database.is_postgresql else "sqlite"
    run_statements(database, REFUSE_CHANGE[system], row=row)
    yield


@contextmanager
def another_writer(database: Database) -> Iterator[None]:
    """Somebody else keeps everybody from writing deliveries."""
    with database.write() as connection:
        if database.is_postgresql:
            connection.execute(text("LOCK TABLE deliveries IN EXCLUSIVE MODE"))
        yield


def run_statements(database: Database, statements: list[str], **parts: str) -> None:
    with database.write() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement.format(**parts))
