"""A database with one table, for tests of the layers below the inbox and the mirror."""

from __future__ import annotations

from contextlib import closing, contextmanager

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from receiver.database.database import Database


@contextmanager
def with_notes(url):
    """Make a database with one table."""
    with closing(Database(url)) as opened:
        kind = "SERIAL" if opened.is_postgresql else "INTEGER"
        with opened.write() as connection:
            connection.execute(text(f"CREATE TABLE notes (id {kind} PRIMARY KEY, note TEXT NOT NULL)"))
        yield opened


def notes(database):
    with database.read() as connection:
        return list(connection.execute(text("SELECT note FROM notes ORDER BY id")).scalars())


def add(connection, note):
    connection.execute(text("INSERT INTO notes (note) VALUES (:note)"), {"note": note})


def write_a_note(database):
    with database.write() as connection:
        add(connection, "in the end")


def write_a_note_at_once(database):
    database.run_at_once("INSERT INTO notes (note) VALUES ('in the end')", ())


def write_a_note_together(database):
    database.run_together([("INSERT INTO notes (note) VALUES (?)", ("in the end",))])


def error_of(database, *statements):
    """Run the statements in one transaction, and return the error that SQLAlchemy raises."""

    def run():
        with database.write() as connection:
            for statement in statements:
                connection.execute(text(statement))

    with pytest.raises(SQLAlchemyError) as raised:
        run()
    return raised.value
