"""`migrate`, `doctor` and each start on a database that does not fit: one line says what to do, and nothing is lost."""

from __future__ import annotations

import json
import re
import secrets
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest
from commanding import SETTINGS, Folder, Forks, lines, post, product, wait_until
from sqlalchemy import make_url

#: Every command that works on the database, with its arguments.
STARTS = {
    "serve": ("serve", "--port", "0"),
    "worker": ("worker",),
    "replay": ("replay", "--state", "dead"),
    # Sigma has no API here, and only dating back needs none.
    "reconcile": ("reconcile", "sigma", "--misdated"),
    "prune": ("prune",),
}


@pytest.fixture(scope="module")
def forks():
    with Forks(2) as running:
        yield running


@pytest.fixture
def folder(tmp_path, database_url):
    """Make an installation whose database is empty."""
    return Folder(tmp_path, environment={"HOOKMIRROR_DATABASE_URL": database_url})


@pytest.fixture
def on_postgresql(tmp_path, postgresql_url):
    return Folder(tmp_path, environment={"HOOKMIRROR_DATABASE_URL": postgresql_url})


@pytest.fixture
def migrated(tmp_path, mirror_url):
    """Make an installation whose database has the tables of this release."""
    return Folder(tmp_path, environment={"HOOKMIRROR_DATABASE_URL": mirror_url})


@pytest.fixture
def migrated_url(databases, tmp_path):
    """Give a database on PostgreSQL with the tables of this release."""
    with databases.lend(tmp_path) as url:
        yield url


@pytest.fixture
def migrated_on_postgresql(tmp_path, migrated_url):
    return Folder(tmp_path, environment={"HOOKMIRROR_DATABASE_URL": migrated_url})


def execute(url, *statements):
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(make_url(url).database)) as connection, connection:
            for statement in statements:
                connection.execute(statement)
        return
    with psycopg.connect(url) as connection:
        for statement in statements:
            connection.execute(statement)


def tables(url):
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(make_url(url).database)) as connection:
            return [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return [name for (name,) in found]


def refused(done, says):
    """Check that the command failed with one line that contains this."""
    assert (done.returncode, done.stdout) == (1, ""), done
    assert len(lines(done.stderr)) == 1, done.stderr
    assert re.search(says, done.stderr), done.stderr


def finding(done, subject):
    found = {each["subject"]: (each["good"], each["says"]) for each in json.loads(done.stdout)}
    return found[subject]


# ── migrate ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_migrate_reports_the_revisions_before_and_after_and_then_that_nothing_is_to_do(folder, forks, database_url):
    dry = forks.run(folder, "migrate", "--dry-run")
    assert lines(dry.stdout)[0].startswith("receiver would go from nothing to 0")
    first = forks.run(folder, "migrate", "--json")
    step = json.loads(first.stdout)["steps"][0]
    assert (step["branch"], step["before"], step["after"]) == ("receiver", None, max(step["revisions"]))
    again = forks.run(folder, "migrate")
    assert lines(again.stdout) == ["The database has the schema of this release already."]
    assert {dry.returncode, first.returncode, again.returncode} == {0}
    assert "deliveries" in tables(database_url)


def test_a_dry_run_makes_no_table(on_postgresql, forks, postgresql_url):
    assert json.loads(forks.run(on_postgresql, "migrate", "--dry-run", "--json").stdout)["dry_run"] is True
    assert tables(postgresql_url) == []


def test_of_processes_that_start_at_the_same_time_on_a_new_database_one_makes_the_tables(folder, forks, tmp_path):
    folders = [Folder(tmp_path / str(number), environment=folder.environment) for number in range(2)]
    for each in folders:
        each.path.mkdir()
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda each: forks.run(each, "migrate", "--json"), folders))
    assert [done.returncode for done in runs] == [0, 0], [done.stderr for done in runs]
    assert sorted(bool(json.loads(done.stdout)["steps"]) for done in runs) == [False, True]


# ── the schema is missing, behind, ahead ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("command", STARTS)
def test_no_command_starts_on_a_postgresql_without_tables(on_postgresql, forks, postgresql_url, command):
    refused(forks.run(on_postgresql, *STARTS[command]), "has no tables of receiver yet: run `hookmirror migrate`")
    assert tables(postgresql_url) == []


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_no_command_starts_on_a_postgresql_that_is_behind(migrated_on_postgresql, forks, migrated_url, command):
    execute(migrated_url, "UPDATE alembic_version_receiver SET version_num = '0001'")
    done = forks.run(migrated_on_postgresql, *STARTS[command])
    refused(done, r"receiver is at revision 0001 there and 0\d+ here: run `hook")


def test_no_command_starts_on_a_database_that_is_ahead(migrated, forks, mirror_url):
    execute(mirror_url, "UPDATE alembic_version_catalog SET version_num = '9999'")
    for command in (STARTS["serve"], STARTS["worker"], ("migrate",)):
        refused(forks.run(migrated, *command), "This hookmirror is older than the database: catalog")


def test_serve_works_on_a_migrated_postgresql(on_postgresql, forks):
    assert forks.run(on_postgresql, "migrate").returncode == 0
    with on_postgresql.serving() as (_, client):
        answer = post(client, product(1, key="x", name="Lamp"))
        assert answer.json()["status"] == "accepted"
        wait_until(lambda: client.get("/readyz").json()["status"] == "ready", "the server")


# ── doctor ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_doctor_reports_a_missing_database_file_and_does_not_make_it(tmp_path, forks):
    done = forks.run(Folder(tmp_path), "doctor", "--json")
    good, says = finding(done, "database")
    assert (done.returncode, good) == (0, True)
    assert says.endswith("hookmirror.db does not exist yet: the first start creates it")
    assert not (tmp_path / "hookmirror.db").exists()


def test_doctor_reports_that_a_new_file_could_not_be_made(tmp_path, forks):
    nowhere = Folder(tmp_path, environment={"HOOKMIRROR_DATABASE_URL": "sqlite:////nowhere/at/all.db"})
    done = forks.run(nowhere, "doctor", "--json")
    assert done.returncode == 1
    assert "create its folder, or give this user the right to write there" in finding(done, "database")[1]


def test_doctor_reports_that_the_target_of_a_link_could_not_be_made(tmp_path, forks):
    (tmp_path / "hookmirror.db").symlink_to("/nowhere/at/all.db")
    done = forks.run(Folder(tmp_path), "doctor", "--json")
    assert (done.returncode, finding(done, "database")[0]) == (1, False)
    assert "it is a link to /nowhere/at/all.db, so create the folder of that" in finding(done, "database")[1]


def test_doctor_reports_a_postgresql_without_tables_and_makes_none(on_postgresql, forks, postgresql_url):
    done = forks.run(on_postgresql, "doctor", "--json")
    good, says = finding(done, "schema")
    assert (done.returncode, good) == (1, False)
    assert "receiver would go from nothing to" in says
    assert says.endswith("run `hookmirror migrate`")
    assert tables(postgresql_url) == []


@pytest.mark.parametrize(
    ("revision", "says"),
    [
        ("0001", "is behind this release. receiver would go from 0001 to"),
        ("9999", "This hookmirror is older than the database"),
        ("cafe", "at revision 'cafe', which no release has"),
    ],
)
def test_doctor_reports_a_schema_that_is_behind_or_ahead(migrated, forks, mirror_url, revision, says):
    execute(mirror_url, f"UPDATE alembic_version_receiver SET version_num = '{revision}'")
    done = forks.run(migrated, "doctor", "--json")
    mends_itself = revision == "0001" and mirror_url.startswith("sqlite")
    assert done.returncode == (0 if mends_itself else 1)
    assert says in finding(done, "schema")[1]


def test_doctor_and_a_dry_run_name_a_table_of_another_program_that_prevents_the_migration(folder, forks, database_url):
    execute(database_url, "CREATE TABLE sessions (id INTEGER PRIMARY KEY)")
    says = "tables named sessions that hookmirror did not make: name a database, or on PostgreSQL a schema, without"
    doctor = forks.run(folder, "doctor", "--json")
    assert doctor.returncode == 1
    assert says in finding(doctor, "schema")[1]
    refused(forks.run(folder, "migrate", "--dry-run"), says)
    refused(forks.run(folder, "migrate"), says)
    assert tables(database_url) == ["sessions"]


def test_doctor_finds_nothing_to_mend_in_a_database_of_this_release(migrated, forks):
    done = forks.run(migrated, "doctor", "--json")
    assert done.returncode == 0, done.stdout
    assert finding(done, "schema")[1].startswith("is this release's: receiver 0")
    assert finding(done, "processes") == (
        True,
        "no endpoint and no worker runs on this database yet",
    )


# ── processes with different settings ─────────────────────────────────────────────────────────────────────────

LESS = SETTINGS.replace('[sources.iimmpact]\nsecrets = ["secret-of-these-tests-only"]\n', "")


def test_two_workers_with_different_sources_are_reported_at_start_and_by_doctor(
    migrated_on_postgresql, forks, tmp_path
):
    def processes(asking):
        """Return doctor's finding about the processes: whether it is good, and its text."""
        return finding(forks.run(asking, "doctor", "--json"), "processes")

    one = migrated_on_postgresql
    (tmp_path / "other").mkdir()
    other = Folder(tmp_path / "other", LESS, environment=one.environment)
    with one.running("worker"):
        wait_until(lambda: processes(one)[1].startswith("worker "), "the worker")
        assert finding(forks.run(other, "doctor", "--json"), "endpoint") == (
            False,
            "no endpoint runs, so no webhook is received: start `hookmirror serve`",
        )
        good, says = processes(other)
        assert good
        assert "compared with these settings: Wired differently: worker" in says
        assert forks.run(one, "replay", "--state", "dead").stderr == ""
        told = forks.run(other, "replay", "--state", "dead").stderr
        assert "or other handlers or sources, than this command: restart it" in told
        with other.running("worker") as second:
            assert second.stderr is not None
            assert "working" in second.stderr.readline()
            told = next(line for line in second.stderr if "Wired differently" in line)
            assert re.search(r"Wired differently: worker \S+ \(hookmirror \S+\) has besides: source iimmpact", told)
            good, says = processes(one)
            assert not good
            assert "lacks: source iimmpact speaks iimmpact" in says


# ── rights ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def role(postgresql):
    """Make a role that may only connect.

    It is made before the test's database, so that it is dropped after it.
    """
    name, password = f"hookmirror_role_{secrets.token_hex(4)}", "word"
    execute(postgresql, f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
    yield name, password
    execute(postgresql, f"DROP ROLE {name}")


@pytest.fixture
def lesser(role, migrated_url, tmp_path):
    """Make an installation with that role, and give its database's URL for the owner."""
    return folder_of(role, migrated_url, tmp_path), migrated_url


def folder_of(role, url, path):
    name, password = role
    limited = make_url(url).set(username=name, password=password).render_as_string(hide_password=False)
    return Folder(path, environment={"HOOKMIRROR_DATABASE_URL": limited})


def test_a_role_that_may_make_no_tables_cannot_migrate_and_the_error_says_so(role, postgresql_url, tmp_path, forks):
    done = forks.run(folder_of(role, postgresql_url, tmp_path), "migrate")
    refused(done, "permission denied for schema public. Give this user the rights it needs")


def test_a_role_without_any_right_is_refused_with_the_missing_right(lesser, forks):
    folder, _ = lesser
    refused(forks.run(folder, "serve"), "permission denied for table alembic_version_receiver. Give this user")


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_a_role_that_may_only_read_is_refused_with_the_rights_to_grant(lesser, forks, role, command):
    folder, url = lesser
    execute(url, f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role[0]}")
    done = forks.run(folder, *STARTS[command])
    refused(
        done, rf"The role {role[0]} may not read and write .*deliveries.*: GRANT it SELECT, INSERT, UPDATE and DELETE"
    )


@pytest.mark.parametrize("sequence", ["changes_seq_seq", "actions_id_seq", "runs_id_seq"])
def test_a_role_that_may_not_use_a_sequence_is_refused_with_the_right_to_grant(lesser, forks, role, sequence):
    folder, url = lesser
    execute(
        url,
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role[0]}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role[0]}",
        f"REVOKE USAGE ON SEQUENCE {sequence} FROM {role[0]}",
    )
    refused(forks.run(folder, "worker"), rf"may not read and write public\.{sequence}: GRANT .* USAGE on all sequences")


def test_doctor_names_the_rights_to_grant_to_a_role_that_may_only_read(lesser, forks, role):
    folder, url = lesser
    execute(url, f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role[0]}")
    done = forks.run(folder, "doctor", "--json")
    assert done.returncode == 1
    assert "GRANT it SELECT, INSERT, UPDATE and DELETE" in finding(done, "schema")[1]


def test_a_role_with_the_named_rights_works(lesser, forks, role):
    folder, url = lesser
    execute(
        url,
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role[0]}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role[0]}",
    )
    assert forks.run(folder, "doctor").returncode == 0
    with folder.serving() as (_, client):
        answer = post(client, product(1, key="x", name="Lamp"))
        assert answer.json()["status"] == "accepted"
        execute_until(url, "SELECT count(*) FROM changes", 1)


def execute_until(url, question, answer):
    def ask():
        with psycopg.connect(url) as connection:
            return connection.execute(question).fetchone() == (answer,)

    wait_until(ask, question)


def execute_writing(url, *statements):
    """Run the statements in a database whose transactions are read-only by default."""
    execute(url, "SET TRANSACTION READ WRITE", *statements)


def test_a_read_only_database_is_reported_as_such(migrated_on_postgresql, forks, migrated_url):
    name = make_url(migrated_url).database
    execute(migrated_url, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    refused(forks.run(migrated_on_postgresql, "serve"), "session is read-only. Name the primary server")
    execute_writing(migrated_url, "UPDATE alembic_version_receiver SET version_num = '0001'", "DROP TABLE processes")
    refused(forks.run(migrated_on_postgresql, "migrate"), "session is read-only. Name the primary server")


#: Drops root's rights to ignore file permissions, CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH (<linux/capability.h>).
OBEY_THE_RIGHTS_OF_FILES = """
import ctypes
system = ctypes.CDLL(None)
header, rights = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert system.capget(header, rights) == 0
rights[0] &= ~(1 << 1 | 1 << 2)
assert system.capset(header, rights) == 0
"""


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_a_read_only_sqlite_file_is_reported_before_anything_starts(tmp_path, command):
    folder = Folder(tmp_path, before=OBEY_THE_RIGHTS_OF_FILES)
    folder.migrate()
    folder.database.chmod(0o444)
    refused(
        folder.run(*STARTS[command]), "readonly database. Give this user the right to write the file and its folder"
    )


# ── the driver ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def without_driver(tmp_path):
    """Make an installation on which psycopg cannot be imported."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "psycopg.py").write_text("raise ImportError('no pq wrapper available')")
    return Folder(tmp_path, environment={"PYTHONPATH": str(tmp_path / "broken")}, fresh=True)


def test_a_missing_driver_is_reported_with_how_to_install_it(without_driver):
    without_driver.environment["HOOKMIRROR_DATABASE_URL"] = "postgresql://127.0.0.1:1/nowhere"
    refused(
        without_driver.run("serve"),
        r"driver cannot be imported \(no pq wrapper available\): install it with `pip install",
    )


def test_sqlite_works_without_the_driver_of_postgresql(without_driver):
    with without_driver.serving() as (_, client):
        assert post(client, product(1, key="x", name="Lamp")).status_code == 200
