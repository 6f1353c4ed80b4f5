"""The classification of database errors, with real errors of SQLite and PostgreSQL."""

from __future__ import annotations

import os
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest
from notes import add, error_of, notes
from raw import ping
from sqlalchemy import bindparam, select, text
from sqlalchemy.exc import (
    OperationalError,
    PendingRollbackError,
    ResourceClosedError,
    SQLAlchemyError,
    StatementError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm.exc import StaleDataError

from receiver.database.columns import UtcDateTime
from receiver.database.database import Database
from receiver.database.errors import (
    RUNS_AGAIN,
    explain,
    is_fault_of_values,
    is_infrastructure_error,
    is_of_the_connection,
    is_read_only,
    is_transient,
    retry_transaction,
)


def test_a_database_locked_by_another_program_is_transient(sqlite, file, monkeypatch):
    monkeypatch.setattr("receiver.database.sqlite.connections.BUSY_TIMEOUT", 1)
    sqlite.close()
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        error = error_of(sqlite, "INSERT INTO notes (note) VALUES ('x')")
    assert is_transient(error)
    assert is_infrastructure_error(error)
    assert explain(error, f"sqlite:///{file}").endswith(
        "Another program holds the file: stop that program, or wait for it."
    )


def test_a_deadlock_of_two_writers_is_transient(postgres):
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


def test_a_serialization_failure_of_two_writers_is_transient(postgres):
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


def test_a_connection_ended_by_the_server_is_transient_and_the_next_one_works(postgres):
    def read_on():
        with postgres.read() as connection:
            number = connection.execute(text("SELECT pg_backend_pid()")).scalar()
            with postgres.read() as other:
                other.execute(text(f"SELECT pg_terminate_backend({number}, 60000)"))
            connection.execute(text("SELECT 1"))

    with pytest.raises(SQLAlchemyError) as raised:
        read_on()
    assert is_transient(raised.value)
    assert is_infrastructure_error(raised.value)
    assert notes(postgres) == []


@pytest.mark.parametrize(
    "statements",
    [
        ["SELECT * FROM absent"],
        ["SET ROLE pg_monitor", "SELECT * FROM notes"],
        ["SET statement_timeout = 1", "SELECT pg_sleep(60)"],
    ],
    ids=["no such table", "no right", "cancelled"],
)
def test_a_server_that_cannot_be_used_is_an_infrastructure_error(postgres, statements):
    error = error_of(postgres, *statements)
    assert is_infrastructure_error(error)
    assert not is_transient(error)


def test_a_missing_database_is_an_infrastructure_error_with_an_explanation(postgresql_url):
    url = postgresql_url + "_absent"
    with closing(Database(url)) as database, pytest.raises(SQLAlchemyError) as raised:
        ping(database)
    assert is_infrastructure_error(raised.value)
    assert "Create the database, or correct its name in HOOKMIRROR_DATABASE_URL." in explain(raised.value, url)


@pytest.mark.parametrize(
    "statement",
    ["INSERT INTO notes (note) VALUES (NULL)", "INSERT INTO notes (id, note) VALUES (1, 'a'), (1, 'b')"],
)
def test_a_refused_value_is_neither_transient_nor_an_infrastructure_error(database, statement):
    error = error_of(database, statement)
    assert not is_transient(error)
    assert not is_infrastructure_error(error)


def test_a_pool_without_a_free_connection_is_an_infrastructure_error():
    assert is_infrastructure_error(PoolTimeoutError("no connection for 30 seconds"))


@pytest.mark.parametrize("error", [PendingRollbackError, ResourceClosedError, StaleDataError])
def test_a_wrong_use_of_a_session_or_connection_is_not_an_infrastructure_error(error):
    assert not is_infrastructure_error(error("used wrongly"))


def test_a_value_that_a_column_type_cannot_convert_is_not_an_infrastructure_error():
    assert not is_infrastructure_error(StatementError("no such colour", "INSERT", {}, ValueError("no such colour")))


def test_a_full_database_is_an_infrastructure_error(sqlite, file):
    with sqlite.read() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar()
    error = error_of(
        sqlite, f"PRAGMA max_page_count = {pages}", "INSERT INTO notes (note) VALUES (hex(randomblob(50000)))"
    )
    assert is_infrastructure_error(error)
    assert not is_transient(error)
    assert "Free some space on its disk; nothing that was acked is lost." in explain(error, f"sqlite:///{file}")


def test_a_read_only_database_is_an_infrastructure_error(sqlite, file):
    error = error_of(sqlite, "PRAGMA query_only = ON", "INSERT INTO notes (note) VALUES ('x')")
    assert is_infrastructure_error(error)
    assert "Give this user the right to write the file" in explain(error, f"sqlite:///{file}")


def test_a_file_that_is_not_a_database_is_an_infrastructure_error(file):
    file.write_bytes(b"certainly not a database, but long enough to be looked at" * 20)
    database = Database(f"sqlite:///{file}")
    error = error_of(database, "SELECT 1")
    assert is_infrastructure_error(error)
    assert "The file is not an SQLite database: name another" in explain(error, f"sqlite:///{file}")
    database.close()


def test_a_damaged_file_is_an_infrastructure_error(sqlite, file):
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
    assert is_infrastructure_error(error)
    assert "restore it from a backup" in explain(error, f"sqlite:///{file}")


def test_a_missing_folder_is_an_infrastructure_error(tmp_path):
    url = f"sqlite:///{tmp_path / 'absent' / 'mirror.db'}"
    database = Database(url)
    with pytest.raises(SQLAlchemyError) as raised:
        ping(database)
    assert is_infrastructure_error(raised.value)
    assert "Create its folder, or give this user the right to write there." in explain(raised.value, url)
    database.close()


def failing(times, error, runs):
    """Make a transaction that fails this many times before it succeeds."""

    def run():
        runs.append(len(runs))
        if len(runs) <= times:
            raise error
        return "done"

    return run


def test_a_transaction_that_may_succeed_is_repeated_a_bounded_number_of_times():
    transient = OperationalError("", {}, Exception("closed"), connection_invalidated=True)
    runs: list[int] = []
    assert (retry_transaction(failing(3, transient, runs)), len(runs)) == ("done", 4)
    runs.clear()
    with pytest.raises(OperationalError):
        retry_transaction(failing(1_000, transient, runs))
    assert len(runs) == 1 + RUNS_AGAIN


def test_a_transaction_with_refused_content_is_not_repeated(database):
    runs: list[int] = []
    refused = error_of(database, "INSERT INTO notes (note) VALUES (NULL)")
    with pytest.raises(SQLAlchemyError):
        retry_transaction(failing(1, refused, runs))
    assert len(runs) == 1


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), OSError("disk is full")])
def test_errors_from_elsewhere_are_not_database_errors(error):
    assert not is_transient(error)
    assert not is_infrastructure_error(error)


def test_a_missing_server_is_an_infrastructure_error_that_hides_the_password():
    url = "postgresql://user:s3cret@127.0.0.1:1/db"
    database = Database(url)
    with pytest.raises(SQLAlchemyError) as raised:
        ping(database)
    shown = explain(raised.value, url)
    assert is_infrastructure_error(raised.value)
    assert "s3cret" not in shown
    assert "Start PostgreSQL, or correct host and port" in shown
    assert "\n" not in shown
    database.close()


def test_a_folder_in_place_of_the_file_is_reported_as_a_folder(tmp_path):
    assert opening(tmp_path).endswith("This path is a folder: name a file in HOOKMIRROR_DATABASE_URL.")


def test_a_file_without_read_permission_is_not_reported_as_a_missing_folder(file, monkeypatch):
    file.touch()
    # Simulate the refusal, because root may read everything.
    monkeypatch.setattr(os, "access", lambda *_: False)
    error = sqlite3.OperationalError("unable to open database file")
    assert explain(error, f"sqlite:///{file}").endswith("Give this user the right to read and write the file.")


def test_a_missing_folder_is_reported_with_the_advice_to_make_it(tmp_path):
    assert opening(tmp_path / "no" / "folder.db").endswith(
        "Create its folder, or give this user the right to write there."
    )


def opening(path):
    """Return the explanation of the error that comes from opening this URL."""
    url = f"sqlite:///{path}"
    with closing(Database(url)) as database, pytest.raises(SQLAlchemyError) as raised:
        ping(database)
    return explain(raised.value, url)


def test_an_unknown_error_is_explained_with_where_to_look(file):
    assert explain(ValueError("odd"), f"sqlite:///{file}").endswith("odd. Check HOOKMIRROR_DATABASE_URL.")


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ('FATAL:  too many connections for role "hookmirror"', "raise `max_connections` of the server or the role's"),
        ("FATAL:  sorry, too many clients already", "Close other connections"),
        ("connection failed: session is read-only", "If it is the primary, turn off `default_transaction_read_only`"),
        ('column "tenant" of relation "bodies" does not exist', "run `hookmirror doctor`, which says what to do."),
        ("no schema has been selected to create in", "run `ALTER ROLE … SET search_path = public`."),
    ],
)
def test_a_refusal_of_the_server_is_explained_with_what_to_change_there(reason, advice):
    assert advice in explain(OperationalError("", None, Exception(reason)), "postgresql://hookmirror@db/hookmirror")


def test_the_advice_names_the_place_where_the_url_is_set(file):
    told = explain(ValueError("not a database"), f"sqlite:///{file}", setting="`database_url` in {my}.toml")
    assert told.endswith("The file is not an SQLite database: name another file in `database_url` in {my}.toml.")


def test_all_connections_to_a_server_without_writes_are_closed_and_the_transaction_is_repeated(postgres):
    name = postgres.engine.url.database
    with postgres.write() as connection:
        connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
    postgres.close()
    error = error_of(postgres, "INSERT INTO notes (note) VALUES ('x')")
    assert is_read_only(error)
    assert is_infrastructure_error(error)
    assert not is_transient(error)


def test_a_session_that_became_read_only_is_closed(postgres):
    error = error_of(postgres, "SET TRANSACTION READ ONLY", "INSERT INTO notes (note) VALUES ('x')")
    assert error.orig.sqlstate == "25006"
    assert is_read_only(error)
    assert is_transient(error)
    assert is_infrastructure_error(error)


def test_a_session_that_learned_of_its_demotion_is_closed_although_it_only_reads(postgres):
    with postgres.read() as connection:
        before = connection.execute(text("SELECT pg_backend_pid()")).scalar()
        connection.exec_driver_sql("SET default_transaction_read_only = on")
        connection.connection.commit()
    with postgres.read() as connection:
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar() != before


@pytest.mark.parametrize("is_at_once", [False, True])
def test_after_a_search_path_is_mended_a_connection_that_began_with_the_wrong_one_fails_once(postgres, is_at_once):
    def use(path):
        with postgres.write() as connection:
            name = connection.execute(text("SELECT current_database()")).scalar()
            connection.execute(text(f"ALTER DATABASE {name} SET search_path = {path}"))

    def ask():
        if is_at_once:
            return len(postgres.run_at_once("SELECT note FROM notes", ()))
        with postgres.read() as connection:
            return len(connection.execute(text("SELECT note FROM notes")).all())

    use("nowhere")
    postgres.engine.dispose()
    use("public")
    with pytest.raises(SQLAlchemyError, match="does not exist") as raised:
        ask()
    assert not is_transient(raised.value)
    assert [ask(), ask()] == [0, 0]


@pytest.mark.parametrize("state", ["25006", "57P01", "57P02", "57P03", "08006", "08P01"])
def test_a_new_connection_may_succeed_after_a_server_ends_or_takes_no_writes(state):
    assert is_of_the_connection(psycopg.errors.lookup(state)())


@pytest.mark.parametrize("error", [None, ValueError("25006"), psycopg.errors.lookup("57014")(), psycopg.Error("x")])
def test_other_errors_leave_a_connection_open(error):
    assert not is_of_the_connection(error)


def test_an_error_about_several_servers_says_what_each_one_answered():
    url = "postgresql://user:s3cret@127.0.0.1:1,127.0.0.1:2/db"
    with closing(Database(url)) as database, pytest.raises(SQLAlchemyError) as raised:
        ping(database)
    shown = explain(raised.value, url)
    assert "port 1 failed: Connection refused; connection to server" in shown
    assert "port 2 failed: Connection refused. Start PostgreSQL, or correct host and port" in shown
    assert "s3cret" not in shown
    assert "\n" not in shown


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO notes (note) VALUES (repeat(md5(random()::text), 200000))",
        "INSERT INTO notes (note) VALUES ((1/0)::text)",
        "INSERT INTO notes (note) VALUES (NULL)",
        "DO $$BEGIN RAISE 'not this one'; END$$",
    ],
)
def test_a_value_that_postgresql_refuses_is_a_fault_of_values(postgres, statement):
    with postgres.write() as connection:
        connection.execute(text("ALTER TABLE notes ALTER COLUMN note SET NOT NULL"))
        connection.execute(text("ALTER TABLE notes ALTER COLUMN note SET STORAGE PLAIN"))
    error = error_of(postgres, statement)
    assert is_fault_of_values(error), error
    assert not is_infrastructure_error(error)


def test_a_value_that_the_driver_cannot_bind_is_a_fault_of_values(sqlite):
    for value in (2**70, "\ud800"):
        with sqlite.read() as connection, pytest.raises((OverflowError, UnicodeEncodeError)) as raised:
            connection.exec_driver_sql("SELECT ?", (value,))
        assert is_fault_of_values(raised.value)


def test_a_value_that_a_column_type_cannot_convert_is_a_fault_of_values(sqlite):
    wanted = select(bindparam("at", type_=UtcDateTime()))
    with sqlite.read() as connection, pytest.raises(StatementError) as raised:
        connection.execute(wanted, {"at": "2026-06-01"})
    assert is_fault_of_values(raised.value)


@pytest.mark.parametrize("error", [AttributeError("'str' object has no attribute 'tzinfo'"), IndexError(), KeyError()])
def test_a_row_that_cannot_be_made_of_its_values_is_a_fault_of_values(error):
    assert is_fault_of_values(error)


def test_a_statement_that_asks_for_an_unknown_column_is_not_a_fault_of_values(sqlite):
    with sqlite.read() as connection, pytest.raises(LookupError) as raised:
        connection.execute(text("SELECT 1 AS one")).one()._mapping["two"]
    assert isinstance(raised.value, SQLAlchemyError)
    assert not is_fault_of_values(raised.value)


def test_a_lock_timeout_is_not_a_fault_of_values(postgres):
    with postgres.write() as holder:
        holder.execute(text("LOCK TABLE notes"))
        error = error_of(postgres, "SET LOCAL lock_timeout = '1ms'", "INSERT INTO notes (note) VALUES ('x')")
    assert isinstance(error, OperationalError)
    assert not is_fault_of_values(error)
    assert not is_fault_of_values(MemoryError())
