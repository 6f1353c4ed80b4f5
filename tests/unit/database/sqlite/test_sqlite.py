"""SQLite: turns of its one writer, flushes, and a file that disappears while it is open."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing

import pytest
from descriptors import descriptors_of
from notes import add, notes, write_a_note, write_a_note_at_once, write_a_note_together
from raw import ping
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError

from receiver.database.database import Database
from receiver.database.errors import explain, is_infrastructure_error, is_transient
from receiver.database.sqlite import connections

# ── connections ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_connection_is_opened_and_reads_while_another_writes(sqlite):
    write_a_note(sqlite)
    with sqlite.write() as connection, closing(Database(str(sqlite.engine.url))) as another:
        add(connection, "not committed yet")
        assert notes(another) == ["in the end"]


def test_a_connection_that_cannot_be_set_up_is_closed_at_once(file):
    file.write_bytes(b"certainly not a database, but long enough to be looked at" * 20)
    # The error that is held here holds the frame with the connection.
    with pytest.raises(sqlite3.DatabaseError) as raised:
        connections.connect(str(file))
    assert (raised.value.sqlite_errorname, descriptors_of(file)) == ("SQLITE_NOTADB", 0)


# ── flushes ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_write_is_kept_and_as_durable_as_the_setting_says(sqlite):
    with sqlite.write() as connection:
        add(connection, "kept")
        modes = [connection.execute(text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous")]
    assert (notes(sqlite), modes) == (["kept"], ["wal", 2])


def synchronous(connection):
    return connection.execute(text("PRAGMA synchronous")).scalar()


def test_every_transaction_and_single_statement_is_flushed_even_after_a_failed_one(sqlite):
    def write():
        with sqlite.write() as connection:
            add(connection, "lost")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        write()
    with sqlite.write() as connection:
        assert synchronous(connection) == 2
    assert sqlite.run_at_once("PRAGMA synchronous", ()) == [(2,)]
    assert notes(sqlite) == []


def test_a_write_whose_commit_fails_raises_the_reason_and_leaves_a_usable_connection(sqlite):
    with sqlite.write() as connection:
        connection.execute(text("CREATE TABLE replies (note INTEGER REFERENCES notes DEFERRABLE INITIALLY DEFERRED)"))

    def write():
        with sqlite.write() as connection:
            driver = connection.connection.driver_connection
            connection.execute(text("INSERT INTO replies VALUES (7)"))
            # The constraint is checked at the commit, which leaves the transaction open when it fails.
            assert driver.execute("PRAGMA foreign_keys").fetchone() == (1,)

    with sqlite.engine.connect() as connection:
        connection.connection.driver_connection.execute("PRAGMA foreign_keys=ON")
    with pytest.raises(IntegrityError, match="FOREIGN KEY"):
        write()
    with sqlite.write() as connection:
        assert (synchronous(connection), connection.execute(text("SELECT count(*) FROM replies")).scalar()) == (2, 0)


# ── turns ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_single_statement_that_waits_too_long_for_another_program_may_be_repeated(sqlite, file, monkeypatch):
    monkeypatch.setattr("receiver.database.sqlite.connections.BUSY_TIMEOUT", 10)
    with closing(sqlite3.connect(file, isolation_level=None)) as other, closing(Database(f"sqlite:///{file}")) as ours:
        ping(ours)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OperationalError) as raised:
            ours.run_at_once("INSERT INTO notes (note) VALUES ('late')", ())
    assert is_transient(raised.value)


def sleep_instead(monkeypatch, sleep):
    """Call this function when this thread would sleep; other threads of the process sleep as ever."""
    really, here = time.sleep, threading.current_thread()
    replacement = lambda seconds: (sleep if threading.current_thread() is here else really)(seconds)  # noqa: E731
    monkeypatch.setattr("receiver.database.sqlite.connections.time.sleep", replacement)


@pytest.mark.parametrize("write", [write_a_note, write_a_note_at_once, write_a_note_together])
def test_a_write_that_waits_for_another_program_polls_every_millisecond(sqlite, file, monkeypatch, write):
    monkeypatch.setattr(connections, "BUSY_TIMEOUT", 60_000)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        looks = []

        def sleep(seconds):
            looks.append(seconds)
            if len(looks) == 4:
                other.execute("COMMIT")

        sleep_instead(monkeypatch, sleep)
        write(sqlite)
    assert looks == [0.001] * 4
    assert notes(sqlite) == ["in the end"]


def test_a_failure_other_than_a_lock_is_not_repeated(sqlite, monkeypatch):
    sleep_instead(monkeypatch, lambda _: pytest.fail("it waited"))
    with pytest.raises(OperationalError, match="no such table"):
        sqlite.run_at_once("INSERT INTO absent VALUES (1)", ())


def test_only_writers_poll_that_often_and_readers_use_sqlite_s_own_wait(sqlite):
    with sqlite.write() as connection:
        add(connection, "kept")
    with sqlite.read() as connection:
        assert connection.execute(text("PRAGMA busy_timeout")).scalar() == connections.BUSY_TIMEOUT


# ── the file ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("write", [write_a_note, write_a_note_at_once, write_a_note_together, notes])
@pytest.mark.parametrize("replaced", [False, True], ids=["gone", "another in its place"])
def test_a_file_missing_from_its_path_is_an_infrastructure_error_until_it_is_back(sqlite, file, write, replaced):
    notes(sqlite)
    moved = file.rename(file.with_suffix(".moved"))
    if replaced:
        file.touch()
    with pytest.raises(OperationalError) as raised:
        write(sqlite)
    assert is_infrastructure_error(raised.value)
    assert not is_transient(raised.value)
    assert explain(raised.value, f"sqlite:///{file}").endswith(
        "the file was moved or removed while it was open. Put the file back; or stop every process that has it open, "
        "and start them again."
    )
    moved.rename(file)
    write_a_note(sqlite)
    assert notes(sqlite) == ["in the end"]


@pytest.mark.parametrize("pages", [1, 50])
def test_free_pages_are_returned_to_the_disk_in_small_steps_down_to_a_tenth_of_the_file(sqlite, file, pages):
    for _ in range(2):
        with sqlite.write() as connection:
            add(connection, "x" * 1_000_000)
    with sqlite.write() as connection:
        connection.execute(text("DELETE FROM notes WHERE id = 1"))
    given = list(iter(lambda: sqlite.shrink(pages), 0))
    with sqlite.read() as connection:
        free, there = (connection.execute(text(f"PRAGMA {name}")).scalar() for name in ("freelist_count", "page_count"))
    assert max(given) == pages
    assert sum(given) > 150
    assert free <= there * 0.1 + pages
    assert sqlite.shrink(pages) == 0


def test_a_file_without_auto_vacuum_returns_nothing_until_a_vacuum(file):
    with closing(sqlite3.connect(file)) as old:
        old.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, note TEXT NOT NULL)")
    with closing(Database(f"sqlite:///{file}")) as database:
        with database.write() as connection:
            add(connection, "x" * 1_000_000)
        with database.write() as connection:
            connection.execute(text("DELETE FROM notes"))
        assert database.shrink(10) == 0
    with closing(sqlite3.connect(file, isolation_level=None)) as old:
        old.execute("PRAGMA auto_vacuum=INCREMENTAL")
        old.execute("VACUUM")
        assert old.execute("PRAGMA auto_vacuum").fetchone() == (2,)
