"""After a restart of PostgreSQL, no statement fails on a connection that was idle meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from sqlalchemy import text

from receiver.database.database import Database
from receiver.database.schema import Schema


@pytest.fixture
def database(postgresql_url) -> Iterator[Database]:
    with closing(Database(postgresql_url)) as opened:
        Schema(opened).upgrade()
        yield opened


def end_sessions(url: str) -> None:
    """End all sessions of this database as a server that stops does, and wait for their end."""
    others = "datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE {others}")


def test_a_read_and_a_write_get_a_new_connection_if_the_server_has_closed_the_idle_one(database, postgresql_url):
    beside = database.beside(connections=1)
    sessions = "SELECT pg_backend_pid()"
    for each in (database, beside):
        with each.read() as connection:
            before = connection.execute(text(sessions)).scalar()
        end_sessions(postgresql_url)
        with each.read() as connection:
            assert connection.execute(text(sessions)).scalar() != before
        end_sessions(postgresql_url)
        with each.write() as connection:
            connection.execute(text("DELETE FROM deliveries WHERE false"))
        end_sessions(postgresql_url)
        assert each.run_at_once("SELECT 1", ()) == [(1,)]


def test_a_connection_with_a_report_of_its_server_is_kept(database, postgresql_url):
    with database.read() as connection:
        before = connection.execute(text("SELECT pg_backend_pid()")).scalar()
    with database.write() as connection:
        connection.execute(text("LISTEN something"))
    with psycopg.connect(postgresql_url, autocommit=True) as other:
        other.execute("NOTIFY something")
    with database.read() as connection:
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar() == before
