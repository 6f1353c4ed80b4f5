"""The database: URLs, and transactions on SQLite and PostgreSQL."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest
from notes import add, notes
from sqlalchemy import make_url, text
from sqlalchemy.exc import IntegrityError, OperationalError

from receiver.database.database import Database
from receiver.errors import ConfigurationError

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
        ("postgresql://host:port/db", "its port is not a number. Write postgresql://user:password@host/db"),
    ],
)
def test_a_url_that_cannot_work_is_refused_with_what_to_write(url, reason):
    with pytest.raises(ConfigurationError, match=f"HOOKMIRROR_DATABASE_URL.*({reason})|^HOOKMIRROR.*{reason}"):
        Database(url)


@pytest.mark.parametrize("url", ["mysql://host/db", "hookmirror.db", "sqlite://", "postgresql://host:port/db"])
def test_the_error_about_a_url_names_the_place_where_it_is_set(url):
    with pytest.raises(ConfigurationError, match=r"^`database_url` in my\.toml "):
        Database(url, setting="`database_url` in my.toml")


@pytest.mark.parametrize("url", ["postgresql://user:word@127.0.0.1/db", "postgres://user:word@127.0.0.1/db"])
def test_both_spellings_of_postgresql_are_understood_without_connecting(url):
    database = Database(url)
    assert database.is_postgresql
    database.close()


def test_a_password_mistaken_for_a_port_is_not_shown():
    with pytest.raises(ConfigurationError) as raised:
        Database("postgresql://user:pass:w0rd@host:s3cret/db")
    assert "s3cret" not in str(raised.value)
    assert "special characters of user and password as %40" in str(raised.value)


def test_session_options_of_the_url_are_kept_beside_ours(postgresql):
    url = make_url(postgresql).update_query_dict({"options": "-c application_name=shelves"})
    with closing(Database(url.render_as_string(hide_password=False))) as database, database.read() as connection:
        shown = [connection.execute(text(f"SHOW {name}")).scalar() for name in ("application_name", "timezone")]
    assert shown == ["shelves", "UTC"]


def test_no_connection_is_opened_before_it_is_used(tmp_path):
    Database(f"sqlite:///{tmp_path / 'absent' / 'mirror.db'}").close()
    assert not (tmp_path / "absent").exists()


# ── transactions ──────────────────────────────────────────────────────────────────────────────────────────────


def test_postgresql_flushes_every_write(postgres):
    with postgres.write() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar() == "on"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_write_that_raises_an_error_leaves_nothing(database, error):
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


def test_whatever_the_server_s_settings_writers_see_the_last_lock_holder_s_changes_and_commits_are_durable(postgres):
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


# ── single statements ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_single_statement_is_committed_and_returns_its_rows(database):
    mark = "%s" if database.is_postgresql else "?"
    assert database.run_at_once(f"INSERT INTO notes (note) VALUES ({mark}) RETURNING note", ("kept",)) == [("kept",)]
    assert notes(database) == ["kept"]


def test_a_single_statement_that_fails_raises_sqlalchemy_s_error_and_leaves_nothing(database):
    with pytest.raises(IntegrityError):
        database.run_at_once("INSERT INTO notes (id, note) VALUES (1, 'first'), (1, 'second')", ())
    assert notes(database) == []


def test_the_setup_for_single_statements_runs_once_on_each_connection(sqlite):
    before = ("CREATE TEMP TABLE scratch (note TEXT)", "INSERT INTO scratch VALUES ('made')")
    for _ in range(2):
        assert sqlite.run_at_once("SELECT note FROM scratch", (), after=before) == [("made",)]


def test_a_single_statement_on_a_file_that_cannot_be_opened_raises_sqlalchemy_s_error(tmp_path):
    with closing(Database(f"sqlite:///{tmp_path / 'no' / 'folder.db'}")) as database, pytest.raises(OperationalError):
        database.run_at_once("SELECT 1", ())
