"""The database: URLs, and transactions on SQLite and PostgreSQL."""

from __future__ import annotations

import re
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from notes import add, notes
from sqlalchemy import event, make_url, text
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
        ("sqlite:///a\0b.db", "it has a NUL, or is not text in UTF-8"),
        ("sqlite:///a%00b.db", "it has a NUL, or is not text in UTF-8"),
        ("sqlite:///bad\udcff.db", "it has a NUL, or is not text in UTF-8"),
        ("sqlite://", "names a database in memory, which would lose acked webhooks: name a file"),
        ("sqlite:///:memory:", "names a database in memory"),
        ("sqlite+nothing:///file.db", "cannot be used|names `sqlite"),
        ("postgresql+asyncpg://host/db", "names `postgresql.asyncpg`: use sqlite:///path or postgresql://"),
        ("postgresql://host:port/db", "its port is not a number. Write postgresql://user:password@host/db"),
    ],
)
def test_a_url_that_cannot_work_is_refused_with_what_to_write(url, reason):
    with pytest.raises(ConfigurationError, match=f"HOOKMIRROR_DATABASE_URL.*({reason})|^HOOKMIRROR.*{reason}"):
        Database(url)


def test_a_sqlite_that_is_too_old_is_refused_with_what_to_use(tmp_path, monkeypatch):
    monkeypatch.setattr("sqlite3.sqlite_version_info", (3, 34, 1))
    monkeypatch.setattr("sqlite3.sqlite_version", "3.34.1")
    with pytest.raises(ConfigurationError, match=r"SQLite 3\.34\.1 of this Python is older than 3\.35: use a Python"):
        Database(f"sqlite:///{tmp_path}/hookmirror.db")


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


def test_a_connection_in_use_when_the_database_is_closed_is_closed_at_its_return(database_url):
    database, closed = Database(database_url), []
    event.listen(database.engine, "close", lambda *_: closed.append("one"))
    with database.read() as connection:
        database.close()
        assert (connection.execute(text("SELECT 1")).scalar(), closed) == (1, [])
    assert closed == ["one"]


@pytest.mark.parametrize(
    ("url", "parameter"),
    [
        ("sqlite:///file:shelf?mode=memory&uri=true", "mode"),
        ("sqlite:///file:shelf.db?nolock=1&uri=true", "nolock"),
        ("sqlite:///file:shelf.db?mode=memory&mode=rw&uri=true", "mode"),
        ("sqlite:///file:shelf.db?mode=ro&mode=rw&uri=true", "mode"),
        ("sqlite:///shelf.db?journal_mode=off", "journal_mode"),
        ("sqlite:///what?.db", ".db"),
    ],
)
def test_a_parameter_that_a_file_cannot_have_is_refused(url, parameter):
    with pytest.raises(
        ConfigurationError, match=f"has the parameter `{re.escape(parameter)}`, which a file cannot have here"
    ):
        Database(url)


@pytest.mark.parametrize(
    "name", ["", ":memory:", "file:?uri=true", "file::memory:?uri=true", "file:%3Amemory%3A?uri=true"]
)
def test_a_database_in_memory_is_refused_however_it_is_named(name):
    with pytest.raises(ConfigurationError, match="names a database in memory, which would lose acked webhooks"):
        Database(f"sqlite:///{name}")


# ── the names of a file ───────────────────────────────────────────────────────────────────────────────────────────


def name_by_link(file):
    link = file.with_name("link.db")
    link.symlink_to(file)
    return str(link)


NAMINGS = {
    "path": str,
    "link": name_by_link,
    "uri": lambda file: f"file:{file}?uri=true",
    "uri of a link": lambda file: f"file:{name_by_link(file)}?mode=rwc&uri=true",
    "uri with a host": lambda file: f"file://localhost{str(file).replace('.', '%2E')}?uri=true",
}


@pytest.mark.parametrize("naming", NAMINGS)
def test_a_write_changes_the_stamp_and_the_size_of_the_log_however_the_file_is_named(tmp_path, naming):
    file = tmp_path / "shelf.db"
    with closing(Database(f"sqlite:///{NAMINGS[naming](file)}")) as database:
        before = database.log_stamp
        with database.write() as connection:
            connection.execute(text("CREATE TABLE shelves (number INTEGER)"))
        assert database.log_stamp != before
        assert database.log_bytes > 0


@pytest.mark.parametrize("naming", NAMINGS)
def test_a_new_file_belongs_to_its_owner_alone_however_it_is_named(tmp_path, naming):
    file = tmp_path / "shelf.db"
    with closing(Database(f"sqlite:///{NAMINGS[naming](file)}")) as database, database.read() as connection:
        connection.execute(text("SELECT 1"))
    assert file.stat().st_mode & 0o777 == 0o600
    assert {each.name for each in tmp_path.iterdir()} <= {"shelf.db", "link.db"}


@pytest.mark.parametrize("mode", ["ro", "rw"])
def test_a_uri_for_a_present_file_makes_none(tmp_path, mode):
    with (
        closing(Database(f"sqlite:///file:{tmp_path}/shelf.db?mode={mode}&uri=true")) as database,
        pytest.raises(OperationalError, match="unable to open database file"),
        database.read() as connection,
    ):
        connection.execute(text("SELECT 1"))
    assert list(tmp_path.iterdir()) == []


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


FORMS = {
    "datestyle": "German, DMY",
    "intervalstyle": "sql_standard",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "standard_conforming_strings": "off",
}


def test_whatever_the_server_s_forms_of_values_the_driver_reads_what_it_wrote(postgres):
    values = [
        datetime(2026, 11, 12, 1, 2, 3, 456789, tzinfo=UTC),
        timedelta(days=1, seconds=2),
        b"\x00\\'",
        1 / 3,
        "a\\'",
    ]
    with postgres.write() as connection:
        for name, value in FORMS.items():
            connection.execute(text(f"ALTER DATABASE {postgres.engine.url.database} SET {name} = '{value}'"))
    postgres.close()
    with postgres.write() as connection:
        read = connection.exec_driver_sql("SELECT %s, %s, %s, %s::float8, %s::text", tuple(values)).one()
        shown = connection.exec_driver_sql(r"SELECT 'C:\\shelf'").scalar()
    assert (list(read), shown) == (values, r"C:\\shelf")


LIMITS = ("statement_timeout", "lock_timeout", "idle_session_timeout", "transaction_timeout")


def test_time_limits_of_the_role_end_no_work_of_ours(postgres):
    with postgres.write() as connection:
        known = connection.execute(text("SELECT name FROM pg_settings")).scalars().all()
        limits = [name for name in LIMITS if name in known]
        for name in limits:
            connection.execute(text(f"ALTER DATABASE {postgres.engine.url.database} SET {name} = '20s'"))
    postgres.close()
    with postgres.write() as connection:
        found = {name: connection.execute(text(f"SHOW {name}")).scalar() for name in limits}
    assert found.pop("lock_timeout") == "3s"
    assert set(found.values()) == {"0"}


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


def test_statements_that_run_together_are_committed_together(sqlite):
    sqlite.run_together([("INSERT INTO notes (note) VALUES (?)", (note,)) for note in ("first", "second")])
    assert notes(sqlite) == ["first", "second"]


def test_of_statements_that_run_together_nothing_is_left_if_one_fails(sqlite):
    insert = "INSERT INTO notes (id, note) VALUES (1, ?)"
    with pytest.raises(IntegrityError):
        sqlite.run_together([(insert, ("first",)), (insert, ("second",))])
    sqlite.run_together([])
    assert notes(sqlite) == []


def test_a_single_statement_on_a_file_that_cannot_be_opened_raises_sqlalchemy_s_error(tmp_path):
    with closing(Database(f"sqlite:///{tmp_path / 'no' / 'folder.db'}")) as database, pytest.raises(OperationalError):
        database.run_at_once("SELECT 1", ())
