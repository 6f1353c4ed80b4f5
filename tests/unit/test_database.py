"""The database: URLs, transactions, and what its errors mean, with real errors of SQLite and PostgreSQL."""

from __future__ import annotations

import os
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError

from receiver import database as databases
from receiver.database import Database, explain, insist, is_transient, is_trouble_of_ours
from receiver.errors import ConfigurationError


@contextmanager
def with_notes(url):
    """A database with one table."""
    with closing(Database(url)) as opened:
        kind = "SERIAL" if opened.is_postgresql else "INTEGER"
        with opened.write() as connection:
            connection.execute(text(f"CREATE TABLE notes (id {kind} PRIMARY KEY, note TEXT NOT NULL)"))
        yield opened


@pytest.fixture
def database(database_url):
    with with_notes(database_url) as opened:
        yield opened


@pytest.fixture
def file(tmp_path):
    return tmp_path / "mirror.db"


@pytest.fixture
def sqlite(file):
    with with_notes(f"sqlite:///{file}") as opened:
        yield opened


@pytest.fixture
def postgres(postgresql_url):
    with with_notes(postgresql_url) as opened:
        yield opened


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
        ("postgresql+asyncpg://host/db", "names `postgresql.asyncpg`: use sqlite:///path or postgresql://"),
        ("postgresql://host:port/db", "its port is no number. Write postgresql://user:password@host/db"),
    ],
)
def test_a_url_that_cannot_work_is_refused_with_what_to_write(url, reason):
    with pytest.raises(ConfigurationError, match=f"HOOKMIRROR_DATABASE_URL.*({reason})|^HOOKMIRROR.*{reason}"):
        Database(url)


@pytest.mark.parametrize("url", ["mysql://host/db", "hookmirror.db", "sqlite://", "postgresql://host:port/db"])
def test_a_url_that_cannot_work_is_named_by_where_it_stands(url):
    with pytest.raises(ConfigurationError, match=r"^`database_url` in my\.toml "):
        Database(url, setting="`database_url` in my.toml")


@pytest.mark.parametrize("url", ["postgresql://user:word@127.0.0.1/db", "postgres://user:word@127.0.0.1/db"])
def test_both_spellings_of_postgresql_are_understood_without_connecting(url):
    database = Database(url)
    assert database.is_postgresql
    database.close()


def test_a_password_that_is_taken_for_a_port_is_not_shown():
    with pytest.raises(ConfigurationError) as raised:
        Database("postgresql://user:pass:w0rd@host:s3cret/db")
    assert "s3cret" not in str(raised.value)
    assert "special characters of user and password as %40" in str(raised.value)


def test_session_options_of_the_url_are_kept_beside_ours(postgresql):
    url = make_url(postgresql).update_query_dict({"options": "-c application_name=shelves"})
    with closing(Database(url.render_as_string(hide_password=False))) as database, database.read() as connection:
        shown = [connection.execute(text(f"SHOW {name}")).scalar() for name in ("application_name", "timezone")]
    assert shown == ["shelves", "UTC"]


def test_nothing_is_opened_before_it_is_used(tmp_path):
    Database(f"sqlite:///{tmp_path / 'absent' / 'mirror.db'}").close()
    assert not (tmp_path / "absent").exists()


# ── transactions ──────────────────────────────────────────────────────────────────────────────────────────────


def notes(database):
    with database.read() as connection:
        return list(connection.execute(text("SELECT note FROM notes ORDER BY id")).scalars())


def add(connection, note):
    connection.execute(text("INSERT INTO notes (note) VALUES (:note)"), {"note": note})


def test_a_write_is_kept_and_durable_by_setting(sqlite):
    with sqlite.write() as connection:
        add(connection, "kept")
        modes = [connection.execute(text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous")]
    assert (notes(sqlite), modes) == (["kept"], ["wal", 2])


def synchronous(connection):
    return connection.execute(text("PRAGMA synchronous")).scalar()


def test_a_write_without_a_flush_is_kept_and_the_next_is_flushed(sqlite):
    with sqlite.write(flush=False) as connection:
        add(connection, "kept")
        modes = [synchronous(connection)]
    with sqlite.write() as connection:
        modes.append(synchronous(connection))
    assert (notes(sqlite), modes) == (["kept"], [1, 2])


def test_after_a_write_without_a_flush_that_failed_the_next_is_flushed(sqlite):
    def write():
        with sqlite.write(flush=False) as connection:
            add(connection, "lost")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        write()
    with sqlite.write() as connection:
        assert synchronous(connection) == 2
    assert sqlite.run_at_once("PRAGMA synchronous", ()) == [(2,)]
    assert notes(sqlite) == []


def test_postgresql_flushes_every_write(postgres):
    with postgres.write(flush=False) as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar() == "on"


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


SETTINGS = {"transaction_isolation": "read committed", "synchronous_commit": "on", "timezone": "UTC"}


def test_whatever_the_server_s_setting_writers_see_what_a_lock_s_last_holder_did_and_an_ack_is_durable(postgres):
    with postgres.write() as connection:
        for setting in ("default_transaction_isolation = 'serializable'", "synchronous_commit = off"):
            connection.execute(text(f"ALTER DATABASE {postgres.engine.url.database} SET {setting}"))
    postgres.close()
    with postgres.write() as connection:
        in_transaction = [connection.execute(text(f"SHOW {name}")).scalar() for name in SETTINGS]
    at_once = [postgres.run_at_once(f"SHOW {name}", ())[0][0] for name in SETTINGS]
    assert in_transaction == at_once == list(SETTINGS.values())


def test_writers_of_one_process_wait_for_each_other(sqlite):
    def write(number):
        for _ in range(10):
            with sqlite.write() as connection:
                count = connection.execute(text("SELECT count(*) FROM notes")).scalar()
                add(connection, str(count))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert notes(sqlite) == [str(number) for number in range(40)]


def write_a_note(database):
    with database.write() as connection:
        add(connection, "in the end")


def write_a_note_at_once(database):
    database.run_at_once("INSERT INTO notes (note) VALUES ('in the end')", ())


@pytest.mark.parametrize("write", [write_a_note, write_a_note_at_once])
def test_who_waits_for_another_program_s_transaction_looks_every_millisecond(sqlite, file, monkeypatch, write):
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        looks = []

        def sleep(seconds):
            looks.append(seconds)
            if len(looks) == 4:
                other.execute("COMMIT")

        monkeypatch.setattr(databases.time, "sleep", sleep)
        write(sqlite)
    assert looks == [0.001] * 4
    assert notes(sqlite) == ["in the end"]


def test_what_fails_for_another_reason_than_a_lock_is_not_tried_again(sqlite, monkeypatch):
    monkeypatch.setattr(databases.time, "sleep", lambda _: pytest.fail("it waited"))
    with pytest.raises(OperationalError, match="no such table"):
        sqlite.run_at_once("INSERT INTO absent VALUES (1)", ())


def test_a_write_whose_commit_fails_says_why_and_leaves_a_connection_that_flushes(sqlite):
    with sqlite.write() as connection:
        connection.execute(text("CREATE TABLE replies (note INTEGER REFERENCES notes DEFERRABLE INITIALLY DEFERRED)"))

    def write():
        with sqlite.write(flush=False) as connection:
            driver = connection.connection.driver_connection
            connection.execute(text("INSERT INTO replies VALUES (7)"))
            # Checked at the commit, which leaves the transaction open when it fails.
            assert driver.execute("PRAGMA foreign_keys").fetchone() == (1,)

    with sqlite.engine.connect() as connection:
        connection.connection.driver_connection.execute("PRAGMA foreign_keys=ON")
    with pytest.raises(IntegrityError, match="FOREIGN KEY"):
        write()
    with sqlite.write() as connection:
        assert (synchronous(connection), connection.execute(text("SELECT count(*) FROM replies")).scalar()) == (2, 0)


def test_only_writers_look_so_often_and_readers_leave_it_to_sqlite(sqlite):
    with sqlite.write() as connection:
        add(connection, "kept")
    with sqlite.read() as connection:
        assert connection.execute(text("PRAGMA busy_timeout")).scalar() == databases.BUSY_TIMEOUT


@pytest.mark.parametrize("write", [write_a_note, write_a_note_at_once, notes])
@pytest.mark.parametrize("replaced", [False, True], ids=["gone", "another in its place"])
def test_a_file_that_is_no_longer_at_its_place_is_trouble_until_it_is_back(sqlite, file, write, replaced):
    notes(sqlite)
    moved = file.rename(file.with_suffix(".moved"))
    if replaced:
        file.touch()
    with pytest.raises(OperationalError) as raised:
        write(sqlite)
    assert is_trouble_of_ours(raised.value)
    assert not is_transient(raised.value)
    assert explain(raised.value, f"sqlite:///{file}").endswith(
        "the file was moved or removed while it was open. Put it back; or stop every process that has it open, and "
        "start them again."
    )
    moved.rename(file)
    write_a_note(sqlite)
    assert notes(sqlite) == ["in the end"]


# ── what errors mean ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_database_locked_by_another_program_is_transient(sqlite, file, monkeypatch):
    monkeypatch.setattr(databases, "BUSY_TIMEOUT", 1)
    sqlite.close()
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        error = error_of(sqlite, "INSERT INTO notes (note) VALUES ('x')")
    assert is_transient(error)
    assert is_trouble_of_ours(error)
    assert explain(error, f"sqlite:///{file}").endswith("Another program holds it: stop that one, or wait.")


def test_two_writers_that_wait_for_each_other_are_transient(postgres):
    with postgres.write() as connection:
        for note in ("one", "other"):
            add(connection, note)
    met = threading.Barrier(2)

    def lock(first, second):
        with postgres.write() as connection:
            for note in (first, second):
                connection.execute(text("UPDATE notes SET note = note WHERE note = :note"), {"note": note})
                if note == first:
                    met.wait(60)

    with ThreadPoolExecutor() as pool:
        ends = [pool.submit(lock, "one", "other").exception, pool.submit(lock, "other", "one").exception]
        (error,) = [error for end in ends if (error := end(60)) is not None]
    assert error.orig.sqlstate == "40P01"
    assert is_transient(error)


def test_two_writers_that_cannot_be_put_in_an_order_are_transient(postgres):
    with postgres.write() as connection:
        add(connection, "shared")
    serializable = postgres.engine.execution_options(isolation_level="SERIALIZABLE")
    with serializable.connect() as one, serializable.connect() as other:
        for connection in (one, other):
            connection.execute(text("SELECT * FROM notes"))
        for connection in (one, other):
            add(connection, "seen by neither")
        one.commit()
        with pytest.raises(SQLAlchemyError) as raised:
            other.commit()
    assert raised.value.orig.sqlstate == "40001"
    assert is_transient(raised.value)


def test_a_connection_that_the_server_ends_is_transient_and_the_next_one_works(postgres):
    def read_on():
        with postgres.read() as connection:
            number = connection.execute(text("SELECT pg_backend_pid()")).scalar()
            with postgres.read() as other:
                other.execute(text(f"SELECT pg_terminate_backend({number}, 60000)"))
            connection.execute(text("SELECT 1"))

    with pytest.raises(SQLAlchemyError) as raised:
        read_on()
    assert is_transient(raised.value)
    assert is_trouble_of_ours(raised.value)
    assert notes(postgres) == []


@pytest.mark.parametrize(
    "statements",
    [
        ["SET TRANSACTION READ ONLY", "INSERT INTO notes (note) VALUES ('x')"],
        ["SELECT * FROM absent"],
        ["SET ROLE pg_monitor", "SELECT * FROM notes"],
        ["SET statement_timeout = 1", "SELECT pg_sleep(60)"],
    ],
    ids=["read-only", "no such table", "no right", "cancelled"],
)
def test_a_server_that_cannot_be_used_is_trouble_of_ours(postgres, statements):
    error = error_of(postgres, *statements)
    assert is_trouble_of_ours(error)
    assert not is_transient(error)


def test_a_database_that_is_not_there_is_trouble_of_ours_and_said_so(postgresql_url):
    url = postgresql_url + "_absent"
    with closing(Database(url)) as database, pytest.raises(SQLAlchemyError) as raised:
        database.ping()
    assert is_trouble_of_ours(raised.value)
    assert "Create it, or correct its name in HOOKMIRROR_DATABASE_URL." in explain(raised.value, url)


@pytest.mark.parametrize(
    "statement",
    ["INSERT INTO notes (note) VALUES (NULL)", "INSERT INTO notes (id, note) VALUES (1, 'a'), (1, 'b')"],
)
def test_a_refused_value_is_neither_transient_nor_trouble_of_ours(database, statement):
    error = error_of(database, statement)
    assert not is_transient(error)
    assert not is_trouble_of_ours(error)


def test_a_full_database_is_trouble_of_ours(sqlite, file):
    with sqlite.read() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar()
    error = error_of(
        sqlite, f"PRAGMA max_page_count = {pages}", "INSERT INTO notes (note) VALUES (hex(randomblob(50000)))"
    )
    assert is_trouble_of_ours(error)
    assert not is_transient(error)
    assert "Free some space on its disk; nothing that was acked is lost." in explain(error, f"sqlite:///{file}")


def test_a_read_only_database_is_trouble_of_ours(sqlite, file):
    error = error_of(sqlite, "PRAGMA query_only = ON", "INSERT INTO notes (note) VALUES ('x')")
    assert is_trouble_of_ours(error)
    assert "Give this user the right to write the file" in explain(error, f"sqlite:///{file}")


def test_a_file_that_is_no_database_is_trouble_of_ours(file):
    file.write_bytes(b"certainly not a database, but long enough to be looked at" * 20)
    database = Database(f"sqlite:///{file}")
    error = error_of(database, "SELECT 1")
    assert is_trouble_of_ours(error)
    assert "The file is something else: name another" in explain(error, f"sqlite:///{file}")
    database.close()


def test_a_damaged_file_is_trouble_of_ours(sqlite, file):
    with sqlite.write() as connection:
        for _ in range(200):
            add(connection, "x" * 500)
        connection.execute(text("CREATE INDEX ix_notes ON notes (note)"))
    with sqlite.engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    sqlite.close()
    size = file.stat().st_size
    with file.open("r+b") as opened:
        opened.seek(4096)
        opened.write(os.urandom(size - 4096))
    error = error_of(sqlite, "SELECT count(*), max(note) FROM notes", "PRAGMA integrity_check")
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


def failing(times, error, runs):
    """A transaction that fails so many times before it succeeds."""

    def run():
        runs.append(len(runs))
        if len(runs) <= times:
            raise error
        return "done"

    return run


def test_a_transaction_that_may_well_succeed_is_run_again_with_a_bound():
    transient = OperationalError("", {}, Exception("closed"), connection_invalidated=True)
    runs: list[int] = []
    assert (insist(failing(3, transient, runs)), len(runs)) == ("done", 4)
    runs.clear()
    with pytest.raises(OperationalError):
        insist(failing(1_000, transient, runs))
    assert len(runs) == 1 + databases.RUNS_AGAIN


def test_a_transaction_whose_content_is_refused_is_not_run_again(database):
    runs: list[int] = []
    refused = error_of(database, "INSERT INTO notes (note) VALUES (NULL)")
    with pytest.raises(SQLAlchemyError):
        insist(failing(1, refused, runs))
    assert len(runs) == 1


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


def test_advice_names_where_the_url_stands(file):
    told = explain(ValueError("not a database"), f"sqlite:///{file}", setting="`database_url` in {my}.toml")
    assert told.endswith("The file is something else: name another in `database_url` in {my}.toml.")


# ── one statement that is a transaction by itself ─────────────────────────────────────────────────────────────


def test_a_statement_at_once_is_committed_and_returns_its_rows(database):
    mark = "%s" if database.is_postgresql else "?"
    assert database.run_at_once(f"INSERT INTO notes (note) VALUES ({mark}) RETURNING note", ("kept",)) == [("kept",)]
    assert notes(database) == ["kept"]


def test_a_statement_at_once_fails_with_sqlalchemy_s_error_and_leaves_nothing(database):
    with pytest.raises(IntegrityError):
        database.run_at_once("INSERT INTO notes (id, note) VALUES (1, 'first'), (1, 'second')", ())
    assert notes(database) == []


def test_what_comes_before_a_statement_at_once_runs_once_on_each_connection(sqlite):
    before = ("CREATE TEMP TABLE scratch (note TEXT)", "INSERT INTO scratch VALUES ('made')")
    for _ in range(2):
        assert sqlite.run_at_once("SELECT note FROM scratch", (), after=before) == [("made",)]


def test_a_statement_at_once_that_waits_too_long_for_another_program_may_be_run_again(sqlite, file, monkeypatch):
    monkeypatch.setattr(databases, "BUSY_TIMEOUT", 10)
    with closing(sqlite3.connect(file, isolation_level=None)) as other, closing(Database(f"sqlite:///{file}")) as ours:
        ours.ping()
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OperationalError) as raised:
            ours.run_at_once("INSERT INTO notes (note) VALUES ('late')", ())
    assert is_transient(raised.value)


def test_a_statement_at_once_on_a_file_that_cannot_be_opened_fails_with_sqlalchemy_s_error(tmp_path):
    with closing(Database(f"sqlite:///{tmp_path / 'no' / 'folder.db'}")) as database, pytest.raises(OperationalError):
        database.run_at_once("SELECT 1", ())
