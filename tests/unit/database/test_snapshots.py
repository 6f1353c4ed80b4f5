"""Reads of one thread that share a transaction, and sessions of PostgreSQL that serve readers."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest
from sqlalchemy import event, text

from receiver.database.database import Database
from receiver.database.snapshots import one_snapshot


@pytest.fixture
def database(database_url):
    with closing(Database(database_url)) as opened:
        with opened.write() as connection:
            connection.execute(text("CREATE TABLE counted (number integer)"))
        yield opened


def numbers(database: Database) -> int:
    with database.read() as connection:
        return connection.execute(text("SELECT count(*) FROM counted")).scalar_one()


def write(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("INSERT INTO counted VALUES (1)"))


def test_reads_inside_a_snapshot_see_the_same_state_and_later_ones_the_new_one(database):
    beside = database.beside(connections=1)
    with one_snapshot(database):
        assert numbers(database) == 0
        write(beside)
        with one_snapshot(database):
            assert numbers(database) == 0
        assert numbers(database) == 0
    assert numbers(database) == 1


def test_reads_inside_a_snapshot_are_one_transaction(database):
    begun = []
    event.listen(database.engine, "begin", lambda _: begun.append(1))
    with one_snapshot(database):
        for _ in range(3):
            numbers(database)
    assert len(begun) == 1


def test_a_snapshot_belongs_to_its_thread_and_its_set_of_connections(database):
    beside = database.beside(connections=1)
    seen = []
    with one_snapshot(database):
        numbers(database)
        write(beside)
        thread = threading.Thread(target=lambda: seen.append(numbers(database)))
        thread.start()
        thread.join()
        assert (numbers(beside), seen, numbers(database)) == (1, [1], 0)


def test_a_snapshot_ends_with_an_error_inside(database):
    def fail():
        with one_snapshot(database):
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    write(database)
    assert numbers(database) == 1


def test_statements_beside_acks_use_one_core_and_are_not_compiled(postgresql_url):
    with closing(Database(postgresql_url)) as database:
        beside = database.beside(connections=1, seconds=3)
        with beside.read() as connection:
            shown = [
                connection.execute(text(f"SHOW {name}")).scalar_one()
                for name in ("jit", "max_parallel_workers_per_gather", "statement_timeout", "lock_timeout")
            ]
    assert shown == ["off", "0", "3s", "3s"]
