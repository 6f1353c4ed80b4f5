"""The database: URLs, transactions, and what its errors mean, with real errors of SQLite."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from receiver import database as databases
from receiver.database import Database, explain, is_transient, is_trouble_of_ours
from receiver.errors import ConfigurationError


@pytest.fixture
def file(tmp_path):
    return tmp_path / "mirror.db"


@pytest.fixture
def database(file):
    opened = Database(f"sqlite:///{file}")
    with opened.write() as connection:
        connection.execute(text("CREATE TABLE notes (id INTEGER PRIMARY KEY, note TEXT NOT NULL)"))
    yield opened
    opened.close()


def error_of(database, *statements):
    """What SQLAlchemy raises for these statements in one transaction."""

    def run():
        with database.write() as connection:
            for statement in statements:
                connection.execute(text(statement))

    with pytest.raises(SQLAlchemyError) as raised:
        run()
    return raised.value


# ── URLs ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mysql://host/db", "names `mysql`: use sqlite:///path or postgresql://"),
        ("hookmirror.db", "cannot be used: .*Write sqlite:///path or postgresql://"),
        ("", "cannot be used"),
        ("sqlite://", "keeps everything in memory, where an ack promises nothing: name a file"),
        ("sqlite:///:memory:", "keeps everything in memory"),
        ("sqlite+nothing:///file.db", "cannot be used|names `sqlite"),
    ],
)
def test_a_url_that_cannot_work_is_refused_with_what_to_write(url, reason):
    with pytest.raises(ConfigurationError, match=f"HOOKMIRROR_DATABASE_URL.*({reason})|^HOOKMIRROR.*{reason}"):
        Database(url)


@pytest.mark.parametrize("url", ["postgresql://user:word@127.0.0.1/db", "postgres://user:word@127.0.0.1/db"])
def test_both_spellings_of_postgresql_are_understood_without_connecting(url):
    database = Database(url)
    assert database.is_postgresql
    database.close()


def test_nothing_is_opened_before_it_is_used(tmp_path):
    Database(f"sqlite:///{tmp_path / 'absent' / 'mirror.db'}").close()
    assert not (tmp_path / "absent").exists()


# ── transactions ──────────────────────────────────────────────────────────────────────────────────────────────


def notes(database):
    with database.read() as connection:
        return list(connection.execute(text("SELECT note FROM notes ORDER BY id")).scalars())


def add(connection, note):
    connection.execute(text("INSERT INTO notes (note) VALUES (:note)"), {"note": note})


def test_a_write_is_kept_and_durable_by_setting(database):
    with database.write() as connection:
        add(connection, "kept")
        modes = [connection.execute(text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous")]
    assert (notes(database), modes) == (["kept"], ["wal", 2])


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_write_that_raises_leaves_nothing(database, error):
    def write():
        with database.write() as connection:
            add(connection, "lost")
            raise error

    with pytest.raises(error):
        write()
    assert notes(database) == []


def test_a_reader_sees_one_state_throughout(database):
    with database.read() as connection:
        before = connection.execute(text("SELECT count(*) FROM notes")).scalar()
        with database.write() as writing:
            add(writing, "later")
        assert connection.execute(text("SELECT count(*) FROM notes")).scalar() == before
    assert notes(database) == ["later"]


def test_writers_of_one_process_wait_for_each_other(database):
    def write(number):
        for _ in range(10):
            with database.write() as connection:
                count = connection.execute(text("SELECT count(*) FROM notes")).scalar()
                add(connection, str(count))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert notes(database) == [str(number) for number in range(40)]


# ── what errors mean ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_database_locked_by_another_program_is_transient(database, file, monkeypatch):
    monkeypatch.setattr(databases, "BUSY_TIMEOUT", 1)
    database.close()
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        error = error_of(database, "INSERT INTO notes (note) VALUES ('x')")
    assert is_transient(error)
    assert is_trouble_of_ours(error)
    assert explain(error, f"sqlite:///{file}").endswith("Another program holds it: stop that one, or wait.")


@pytest.mark.parametrize(
    "statement",
    ["INSERT INTO notes (note) VALUES (NULL)", "INSERT INTO notes (id, note) VALUES (1, 'a'), (1, 'b')"],
)
def test_a_refused_value_is_neither_transient_nor_trouble_of_ours(database, statement):
    error = error_of(database, statement)
    assert not is_transient(error)
    assert not is_trouble_of_ours(error)


def test_a_full_database_is_trouble_of_ours(database, file):
    with database.read() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar()
    error = error_of(
        database, f"PRAGMA max_page_count = {pages}", "INSERT INTO notes (note) VALUES (hex(randomblob(50000)))"
    )
    assert is_trouble_of_ours(error)
    assert not is_transient(error)
    assert "Free some space on its disk; nothing that was acked is lost." in explain(error, f"sqlite:///{file}")


def test_a_read_only_database_is_trouble_of_ours(database, file):
    error = error_of(database, "PRAGMA query_only = ON", "INSERT INTO notes (note) VALUES ('x')")
    assert is_trouble_of_ours(error)
    assert "Give this user the right to write the file" in explain(error, f"sqlite:///{file}")


def test_a_file_that_is_no_database_is_trouble_of_ours(file):
    file.write_bytes(b"certainly not a database, but long enough to be looked at" * 20)
    database = Database(f"sqlite:///{file}")
    error = error_of(database, "SELECT 1")
    assert is_trouble_of_ours(error)
    assert "The file is something else: name another" in explain(error, f"sqlite:///{file}")
    database.close()


def test_a_damaged_file_is_trouble_of_ours(database, file):
    with database.write() as connection:
        for _ in range(200):
            add(connection, "x" * 500)
        connection.execute(text("CREATE INDEX ix_notes ON notes (note)"))
    with database.engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    size = file.stat().st_size
    with file.open("r+b") as opened:
        opened.seek(4096)
        opened.write(os.urandom(size - 4096))
    error = error_of(database, "SELECT count(*), max(note) FROM notes", "PRAGMA integrity_check")
    assert is_trouble_of_ours(error)
    assert "restore it from a backup" in explain(error, f"sqlite:///{file}")


def test_a_missing_folder_is_trouble_of_ours(tmp_path):
    url = f"sqlite:///{tmp_path / 'absent' / 'mirror.db'}"
    database = Database(url)
    with pytest.raises(SQLAlchemyError) as raised:
        database.ping()
    assert is_trouble_of_ours(raised.value)
    assert "Create its folder, or give this user the right to write there." in explain(raised.value, url)
    database.close()


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), OSError("disk is full")])
def test_errors_of_something_else_are_no_matter_of_the_database(error):
    assert not is_transient(error)
    assert not is_trouble_of_ours(error)


def test_a_server_that_is_not_there_is_trouble_of_ours_and_its_password_is_not_shown():
    url = "postgresql://user:s3cret@127.0.0.1:1/db"
    database = Database(url)
    with pytest.raises(SQLAlchemyError) as raised:
        database.ping()
    shown = explain(raised.value, url)
    assert is_trouble_of_ours(raised.value)
    assert "s3cret" not in shown
    assert "Start PostgreSQL, or correct host and port" in shown
    assert "\n" not in shown
    database.close()


def test_an_error_without_a_known_symptom_still_says_where_to_look(file):
    assert explain(ValueError("odd"), f"sqlite:///{file}").endswith("odd. Check HOOKMIRROR_DATABASE_URL.")
