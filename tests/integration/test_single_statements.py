"""A statement that is a transaction by itself has the results and the errors of any other, without SQLAlchemy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any
from unittest.mock import patch

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from receiver.database.database import Database
from receiver.database.errors import is_fault_of_values, is_infrastructure_error, is_transient


@pytest.fixture
def database(postgresql_url) -> Iterator[Database]:
    with closing(Database(postgresql_url)) as opened, closing(opened.beside(connections=1)) as alone:
        with alone.write() as connection:
            connection.execute(text("CREATE TABLE notes (note integer PRIMARY KEY)"))
        yield alone


def insert(database: Database, note: object) -> list[tuple[int]]:
    return database.run_at_once("INSERT INTO notes VALUES (%s) RETURNING note", (note,))


def notes(database: Database) -> list[int]:
    with database.read() as connection:
        return list(connection.execute(text("SELECT note FROM notes ORDER BY note")).scalars())


def roll_back(database: Database) -> None:
    with suppress(ZeroDivisionError), database.write() as connection:
        connection.execute(text("INSERT INTO notes VALUES (2)"))
        raise ZeroDivisionError


def session(database: Database) -> int:
    return int(database.run_at_once("SELECT pg_backend_pid()", ())[0][0])


def end(url: str, session: int) -> None:
    with psycopg.connect(url) as beside:
        beside.execute("SELECT pg_terminate_backend(%s, 60000)", [session])


def test_it_is_committed_when_its_rows_are_returned(database, postgresql_url):
    assert insert(database, 1) == [(1,)]
    end(postgresql_url, session(database))
    with closing(Database(postgresql_url)) as other:
        assert notes(other) == [1]


def test_the_next_transaction_of_the_connection_can_be_rolled_back(database):
    insert(database, 1)
    roll_back(database)
    assert notes(database) == [1]


@pytest.mark.parametrize("note", [1, "\0"], ids=["refused by the server", "refused by the driver"])
def test_a_refused_value_is_an_error_of_sqlalchemy_and_keeps_the_connection(database, note):
    insert(database, 1)
    before = session(database)
    with pytest.raises(DBAPIError) as raised:
        insert(database, note)
    assert is_fault_of_values(raised.value)
    assert isinstance(raised.value, IntegrityError) == (note == 1)
    assert not raised.value.connection_invalidated
    roll_back(database)
    assert notes(database) == [1]
    assert session(database) == before


def test_a_connection_lost_during_a_statement_is_transient_and_another_one_follows(database):
    with pytest.raises(OperationalError) as raised:
        database.run_at_once("SELECT pg_terminate_backend(pg_backend_pid())", ())
    assert raised.value.connection_invalidated
    assert is_transient(raised.value)
    assert insert(database, 1) == [(1,)]


def test_a_connection_to_a_server_that_accepts_no_writes_is_dropped(database):
    demoted = "LANGUAGE plpgsql AS $$BEGIN RAISE 'a copy' USING ERRCODE = '25006'; END$$"
    with database.write() as connection:
        connection.execute(text(f"CREATE FUNCTION write() RETURNS void {demoted}"))
    before = session(database)
    with pytest.raises(DBAPIError) as raised:
        database.run_at_once("SELECT write()", ())
    assert is_transient(raised.value)
    assert session(database) != before


def test_a_server_that_is_away_is_an_error_of_sqlalchemy(postgresql_url):
    with closing(Database(f"{postgresql_url}_which_is_not_there")) as away, pytest.raises(OperationalError) as raised:
        away.run_at_once("SELECT 1", ())
    assert is_infrastructure_error(raised.value)


def test_an_interrupted_statement_takes_its_connection_along(database):
    """Its results would be those of the next statement, which would not be in a transaction."""
    before = session(database)

    def interrupt(cursor: psycopg.Cursor[Any], *_: Any, **__: Any) -> None:
        cursor.connection.pgconn.send_query(b"INSERT INTO notes VALUES (1)")
        raise SystemExit

    with patch.object(psycopg.Cursor, "execute", interrupt), pytest.raises(SystemExit):
        insert(database, 1)
    roll_back(database)
    assert session(database) != before
    assert 2 not in notes(database)
