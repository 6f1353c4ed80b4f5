"""The schema: migrations make what the code declares, completely or not at all; an unfit database is left unchanged."""

from __future__ import annotations

import re
import secrets
import sqlite3
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import EntryPoint
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from installed_schemas import catalog
from sqlalchemy import create_engine, event, inspect, make_url, select, text
from sqlalchemy.exc import OperationalError
from sqlmodel import Field, SQLModel
from waiting import TIMEOUT

from receiver import MirrorRow
from receiver.database import postgresql, revisions, schema
from receiver.database.columns import Document, ExactDecimal, UtcDateTime
from receiver.database.database import Database
from receiver.database.errors import explain
from receiver.database.revisions import Branch, find_branches
from receiver.database.schema import Schema
from receiver.dialects.sources import find_dialects
from receiver.errors import ConfigurationError, WiringError

find_dialects()

BRANCHES = find_branches()


@pytest.fixture
def database(database_url):
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def migrated(mirror_url):
    """Open a database with the tables of this release, which are copied from a template."""
    opened = Database(mirror_url)
    yield opened
    opened.close()


def run(database, *statements):
    with database.write() as connection:
        for statement in statements:
            connection.execute(text(statement))


def column_of(database, statement):
    with database.read() as connection:
        return list(connection.execute(text(statement)).scalars())


def noted(database):
    with database.read() as connection:
        return {each.branch.name: each.revision for each in Schema(database).statuses(connection)}


def newest():
    return {branch.name: branch.newest for branch in BRANCHES}


# ── results of migrations ─────────────────────────────────────────────────────────────────────────────────────


def test_migrated_tables_equal_the_declared_ones(database):
    Schema(database).upgrade()
    options = {
        "compare_server_default": True,
        "include_object": lambda _, name, kind, *__: kind != "table" or not name.startswith("alembic_version_"),
    }
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, SQLModel.metadata) == []


def test_migrations_make_exactly_what_a_new_database_gets(database, tmp_path, request):
    """That includes conditions of partial indexes, WITHOUT ROWID and AUTOINCREMENT, which alembic does not compare."""
    if database.is_postgresql:
        declared = Database(request.getfixturevalue("new_postgresql_url")())
    else:
        declared = Database(f"sqlite:///{tmp_path / 'declared.db'}")
    with closing(declared):
        Schema(database).upgrade()
        declared.create_tables()
        assert catalog(database) == catalog(declared)


def test_a_second_migration_does_nothing(database):
    assert [step.branch for step in Schema(database).upgrade().steps] == [branch.name for branch in BRANCHES]
    assert Schema(database).upgrade().lines(dry_run=False) == ["The database has the schema of this release already."]
    assert noted(database) == newest()
    Schema(database).check()


def test_a_plan_lists_the_steps_and_does_nothing(database):
    plan = Schema(database).plan()
    assert [(step.branch, step.before, step.after) for step in plan.steps] == [
        (branch.name, None, branch.newest) for branch in BRANCHES
    ]
    assert plan.lines(dry_run=True)[0].startswith("receiver would go from nothing to ")
    assert set(noted(database).values()) == {None}


def test_a_plan_for_a_file_that_does_not_exist_leaves_no_connection_open(tmp_path, monkeypatch):
    told = []

    def made(*given, **options):
        engine = create_engine(*given, **options)
        event.listen(engine, "connect", lambda *_: told.append("opened"))
        event.listen(engine, "close", lambda *_: told.append("closed"))
        return engine

    monkeypatch.setattr(schema, "create_engine", made)
    with closing(Database(f"sqlite:///{tmp_path / 'absent.db'}")) as database:
        assert Schema(database).plan().is_needed
    assert told == ["opened", "closed"]


def test_several_processes_that_start_together_migrate_one_after_the_other(database_url):
    done, errors = [], []
    ready = threading.Barrier(6)

    def migrate():
        with closing(Database(database_url)) as own:
            ready.wait()
            try:
                done.append(bool(Schema(own).upgrade().steps))
            except Exception as error:
                errors.append(error)

    threads = [threading.Thread(target=migrate) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(done) == [False] * 5 + [True]


def test_threads_that_migrate_two_databases_do_not_disturb_each_other(tmp_path):
    ready = threading.Barrier(2)
    made = {}

    def migrate(name):
        with closing(Database(f"sqlite:///{tmp_path / name}")) as own:
            ready.wait()
            try:
                Schema(own).upgrade()
            except Exception as error:
                made[name] = error
            else:
                made[name] = noted(own), column_of(own, "SELECT sql FROM sqlite_schema WHERE sql <> '' ORDER BY name")

    threads = [threading.Thread(target=migrate, args=(name,)) for name in ("one.db", "two.db")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made["one.db"] == made["two.db"]
    assert made["one.db"][0] == newest()


def test_tables_without_a_recorded_revision_are_taken_for_the_first_release(database):
    database.create_tables()
    assert noted(database) == dict.fromkeys(newest(), "0001")
    Schema(database).upgrade()
    assert noted(database) == newest()


# ── unfit databases ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("revision", "says"),
    [
        ("9999", "This hookmirror is older than the database: receiver is at revision 9999 there.*newer release"),
        ("cafe", "receiver is at revision 'cafe', which no release has: restore it from a backup"),
    ],
)
def test_an_unknown_revision_is_refused_and_left_unchanged(migrated, revision, says):
    run(migrated, f"UPDATE alembic_version_receiver SET version_num = '{revision}'")
    for ask in (Schema(migrated).prepare, Schema(migrated).check, Schema(migrated).upgrade, Schema(migrated).plan):
        with pytest.raises(ConfigurationError, match=says):
            ask()
    assert noted(migrated)["receiver"] == revision


def test_tables_of_another_program_are_not_taken_for_ours(database):
    run(database, "CREATE TABLE products (id INTEGER PRIMARY KEY)")
    with pytest.raises(ConfigurationError, match="tables named products that hookmirror did not make: name a"):
        Schema(database).upgrade()
    with database.read() as connection:
        assert not inspect(connection).has_table("deliveries")


@pytest.mark.parametrize(
    "name", ["processes", "rounds", "runs", "seen", "identity", "findings", "followers", "sessions"]
)
def test_a_table_of_another_program_with_the_name_of_a_later_table_is_refused_and_left_unchanged(database, name):
    run(database, f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, name TEXT)")
    says = f"tables named {name} that hookmirror did not make: name a database, or on PostgreSQL a schema, without"
    for ask in (Schema(database).prepare, Schema(database).check, Schema(database).upgrade, Schema(database).plan):
        with pytest.raises(ConfigurationError, match=says):
            ask()
    assert inspect(database.engine).get_table_names() == [name]
    assert [column["name"] for column in inspect(database.engine).get_columns(name)] == ["id", "name"]
    assert column_of(database, f"SELECT id FROM {name}") == []


def test_a_view_of_another_program_with_the_name_of_a_later_table_is_refused(database):
    run(database, "CREATE VIEW sessions AS SELECT 1 AS id")
    with pytest.raises(ConfigurationError, match="tables named sessions that hookmirror did not make"):
        Schema(database).upgrade()


def test_a_later_table_that_was_made_as_it_is_declared_is_taken_for_ours(migrated):
    run(migrated, "UPDATE alembic_version_receiver SET version_num = '0012'")
    assert [step.before for step in Schema(migrated).plan().steps] == ["0012"]
    Schema(migrated).upgrade()
    Schema(migrated).check()


def test_every_start_migrates_sqlite(tmp_path):
    with closing(Database(f"sqlite:///{tmp_path / 'hookmirror.db'}")) as database:
        Schema(database).prepare()
        assert noted(database) == newest()


@pytest.mark.parametrize(
    ("before", "says"),
    [
        ([], "^The database has no tables of receiver yet: run `hookmirror migrate`.$"),
        (
            ["UPDATE alembic_version_receiver SET version_num = '0001'"],
            "behind this release: receiver is at revision 0001",
        ),
    ],
)
def test_postgresql_is_migrated_only_by_the_command(postgresql_url, before, says):
    with closing(Database(postgresql_url)) as database:
        if before:
            Schema(database).upgrade()
            run(database, *before)
        with pytest.raises(ConfigurationError, match=says):
            Schema(database).prepare()


def test_tables_may_be_in_a_schema_that_the_url_names(postgresql_url):
    with closing(Database(postgresql_url)) as database:
        run(database, "CREATE SCHEMA hookmirror", "CREATE TABLE products (id INTEGER)")
    url = make_url(postgresql_url).update_query_dict({"options": "-csearch_path=hookmirror"})
    with closing(Database(url.render_as_string(hide_password=False))) as database:
        Schema(database).upgrade()
        Schema(database).check()
        assert column_of(database, "SELECT count(*) FROM hookmirror.deliveries") == [0]
        assert column_of(database, "SHOW synchronous_commit") == ["on"]


def url_with_path(url, path):
    return make_url(url).update_query_dict({"options": f"-csearch_path={path}"}).render_as_string(hide_password=False)


def test_tables_of_another_program_in_a_later_schema_of_the_path_do_not_matter(postgresql_url):
    with closing(Database(postgresql_url)) as database:
        run(
            database, "CREATE SCHEMA second", "CREATE TABLE products (id INTEGER)", "CREATE TABLE sessions (id INTEGER)"
        )
    with closing(Database(url_with_path(postgresql_url, "second,public"))) as database:
        Schema(database).upgrade()
        Schema(database).check()
        assert column_of(database, "SELECT count(*) FROM second.sessions") == [0]
        assert column_of(database, "SELECT count(*) FROM public.sessions") == [0]


@pytest.mark.parametrize("noted", [True, False])
def test_a_second_installation_whose_path_also_finds_the_first_is_refused(postgresql_url, noted):
    with closing(Database(postgresql_url)) as first:
        Schema(first).upgrade()
        run(first, "CREATE SCHEMA second")
        if not noted:
            run(first, *(f"DROP TABLE {branch.version_table}" for branch in BRANCHES))
    with closing(Database(url_with_path(postgresql_url, "second,public"))) as second:
        for ask in (Schema(second).upgrade, Schema(second).plan):
            with pytest.raises(ConfigurationError) as raised:
                ask()
        assert str(raised.value) == (
            "The role's `search_path` finds the tables of receiver in the schema public, and new ones would be made in "
            "second: let it name one of the two alone, as `?options=-csearch_path%3Dsecond` does in "
            "HOOKMIRROR_DATABASE_URL."
        )
    with closing(Database(url_with_path(postgresql_url, "second"))) as second:
        assert [step.before for step in Schema(second).upgrade().steps] == [None] * len(BRANCHES)


# ── other packages ────────────────────────────────────────────────────────────────────────────────────────────

#: A migration that executes one statement.
REVISION = """
from alembic import op
revision = "{revision}"
down_revision = {before}
TABLES = ("shelves",)

def upgrade():
    op.execute("{statement}")
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return a function that makes an installed package with these statements as its migrations, one a revision."""
    made = []

    def make(*statements):
        name = f"shelving_{len(made)}_{tmp_path.name}".replace("-", "_")
        made.append(name)
        folder = tmp_path / name / "migrations"
        folder.mkdir(parents=True)
        for init in (folder.parent, folder):
            (init / "__init__.py").touch()
        for number, statement in enumerate(statements, 1):
            before = f'"{number - 1:04}"' if number > 1 else None
            (folder / f"v{number:04}_step.py").write_text(
                REVISION.format(revision=f"{number:04}", before=before, statement=statement)
            )
        announce(monkeypatch, EntryPoint("shelving", f"{name}.migrations", revisions.MIGRATION_ENTRY_POINTS))

    monkeypatch.syspath_prepend(tmp_path)
    yield make
    for name in [name for name in sys.modules if name.partition(".")[0] in made]:
        del sys.modules[name]


def announce(monkeypatch, *points):
    """Announce these packages besides ours."""
    ours = [EntryPoint(branch.name, branch.package, revisions.MIGRATION_ENTRY_POINTS) for branch in BRANCHES[1:]]
    monkeypatch.setattr(revisions, "entry_points", lambda group: [*ours, *points])


def test_a_package_is_migrated_beside_ours_with_its_own_revisions(migrated, package):
    package("CREATE TABLE shelves (id INTEGER)", "ALTER TABLE shelves ADD COLUMN colour TEXT")
    assert [(step.branch, step.after) for step in Schema(migrated).upgrade().steps] == [("shelving", "0002")]
    assert noted(migrated) == newest() | {"shelving": "0002"}
    assert column_of(migrated, "SELECT colour FROM shelves") == []


def test_a_package_that_is_no_longer_installed_is_ignored(database, package, monkeypatch):
    package("CREATE TABLE shelves (id INTEGER)")
    Schema(database).upgrade()
    announce(monkeypatch)
    Schema(database).check()
    assert Schema(database).upgrade().steps == []


def test_a_failing_migration_leaves_nothing_of_any_package_behind(database, package):
    package("CREATE TABLE shelves (id INTEGER)", "ALTER TABLE nowhere ADD COLUMN colour TEXT")
    with pytest.raises(Exception, match="nowhere"):
        Schema(database).upgrade()
    assert set(noted(database).values()) == {None}


def test_a_migration_waits_only_briefly_for_a_locked_table(postgresql_url, package, monkeypatch):
    """All later transactions would wait behind it."""
    monkeypatch.setattr(schema, "MIGRATION_LOCK_TIMEOUT", "50ms")
    with closing(Database(postgresql_url)) as database, closing(Database(postgresql_url)) as other:
        Schema(database).upgrade()
        package("ALTER TABLE deliveries ADD COLUMN colour TEXT")
        with other.read() as reading:
            reading.execute(text("SELECT count(*) FROM deliveries"))
            with pytest.raises(OperationalError) as raised:
                Schema(database).upgrade()
        assert explain(raised.value, postgresql_url).endswith("end it, or wait for it, and run this again.")
        assert Schema(database).upgrade().steps[0].after == "0001"


def test_a_migration_waits_for_another_one_for_as_long_as_that_takes(postgresql_url, monkeypatch):
    monkeypatch.setitem(postgresql.SESSION, "lock_timeout", "20ms")
    with (
        closing(Database(postgresql_url)) as database,
        closing(Database(postgresql_url)) as other,
        ThreadPoolExecutor(1) as pool,
        other.write() as migrating,
    ):
        migrating.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": schema.SCHEMA_LOCK})
        waiting = pool.submit(Schema(database).upgrade)
        # Ten times as long as a statement of the session waits for a lock.
        migrating.execute(text("SELECT pg_sleep(0.2)"))
        migrating.rollback()
        assert waiting.result(TIMEOUT).steps


def test_missing_migrations_are_reported(database, monkeypatch):
    announce(monkeypatch, EntryPoint("shelving", "nowhere.migrations", revisions.MIGRATION_ENTRY_POINTS))
    with pytest.raises(WiringError, match=r"The migrations shelving cannot be found .*nowhere"):
        Schema(database).upgrade()


def test_a_package_without_a_first_migration_is_refused_with_advice(database, package):
    package()
    with pytest.raises(WiringError, match="holds no migration: write 0001 first"):
        Schema(database).upgrade()


class Shelf(MirrorRow, table=True):
    """A table of a package without migrations."""

    __tablename__ = "shelves_of_these_tests"

    colour: str | None = Field(default=None)


#: What the rows that exist get in a new column.
EMPTY = {"size": 0, "weight": 0, "papers": {}} | dict.fromkeys(("made_at", "seen_at"), datetime(1970, 1, 1, tzinfo=UTC))


class Label(SQLModel, table=True):
    """Another one, whose columns take no NULL."""

    __tablename__ = "labels_of_these_tests"

    id: int = Field(primary_key=True)
    kind: str = "it's 5% off"
    seen_at: datetime = Field(sa_type=UtcDateTime, default_factory=lambda: datetime.now(UTC))
    size: int
    weight: Decimal = Field(sa_type=ExactDecimal)
    made_at: datetime = Field(sa_type=UtcDateTime)
    papers: dict[str, Any] = Field(sa_type=Document)


def test_tables_of_a_package_without_migrations_are_made_as_declared(database):
    assert "shelves_of_these_tests" in Schema(database).upgrade().created
    run(database, "DROP TABLE shelves_of_these_tests")
    if database.is_postgresql:
        with pytest.raises(
            ConfigurationError, match="lacks the tables shelves_of_these_tests: run `hookmirror migrate`"
        ):
            Schema(database).check()
    assert Schema(database).upgrade().created == ["shelves_of_these_tests"]


def test_a_class_whose_table_was_refused_does_not_hinder_a_migration(database):
    name = f"Again{secrets.token_hex(4)}"
    with pytest.raises(WiringError) as refused:
        type(name, (MirrorRow,), {"__tablename__": "products", "__module__": __name__}, table=True)
    # The exception keeps the class alive.
    assert name in [kind.__name__ for kind in MirrorRow.__subclasses__()]
    assert [step.branch for step in Schema(database).upgrade().steps] == [branch.name for branch in BRANCHES]
    assert "products" in str(refused.value)


def test_a_missing_column_of_such_a_table_is_reported_with_advice(migrated):
    run(migrated, "ALTER TABLE shelves_of_these_tests DROP COLUMN colour")
    mend = r"The table shelves_of_these_tests lacks the column colour: run `(ALTER TABLE .*)`\."
    with pytest.raises(ConfigurationError) as raised:
        Schema(migrated).check()
    with pytest.raises(ConfigurationError, match=mend):
        Schema(migrated).upgrade()
    found = re.fullmatch(mend, str(raised.value))
    assert found is not None
    run(migrated, found[1])
    Schema(migrated).check()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("ALTER TABLE shelves_of_these_tests DROP COLUMN colour", "lacks the column colour: run `ALTER TABLE"),
        ("DROP TABLE attempts", "lacks the table attempts, which a migration made"),
    ],
)
def test_a_dry_run_refuses_what_the_migration_would_refuse(migrated, damage, says):
    run(migrated, damage)
    with pytest.raises(ConfigurationError, match=says):
        Schema(migrated).checked_plan()


@pytest.mark.parametrize("column", ["kind", "seen_at", "size", "weight", "made_at", "papers"])
def test_the_advised_statement_adds_a_column_without_null_to_a_table_with_rows(migrated, column):
    run(migrated, f"ALTER TABLE labels_of_these_tests DROP COLUMN {column}")
    others = {
        "kind": "''",
        "seen_at": "'2026-01-01'",
        "size": "1",
        "weight": "1",
        "made_at": "'2026-01-01'",
        "papers": "'{}'",
    }
    del others[column]
    run(
        migrated,
        f"INSERT INTO labels_of_these_tests (id, {', '.join(others)}) VALUES (1, {', '.join(others.values())})",
    )
    with pytest.raises(ConfigurationError) as raised:
        Schema(migrated).check()
    run(migrated, str(raised.value).split("`")[1])
    Schema(migrated).check()
    with migrated.read() as connection:
        (found,) = connection.execute(select(Label.__table__.c[column])).scalars()
    assert found == {**EMPTY, "kind": "it's 5% off"}[column]


# ── the files ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("branch", BRANCHES, ids=lambda branch: branch.name)
def test_revisions_are_numbered_without_gaps_and_each_follows_the_one_before(branch: Branch):
    script = ScriptDirectory(str(branch.folder), version_locations=[str(branch.folder)])
    found = [(each.revision, each.down_revision) for each in reversed(list(script.walk_revisions()))]
    numbers = [f"{number:04}" for number in range(1, len(found) + 1)]
    assert found == list(zip(numbers, [None, *numbers], strict=False))
    assert list(branch.revisions) == numbers


@pytest.mark.parametrize("branch", BRANCHES, ids=lambda branch: branch.name)
def test_a_migration_that_copies_a_table_names_it(branch: Branch):
    for revision, about in branch.revisions.items():
        source = (branch.folder / f"v{revision}_{about.replace(' ', '_')}.py").read_text("utf-8")
        copied = set(re.findall(r'op\.(?:batch_alter|rename)_table\(\s*"(\w+)"', source))
        assert branch.tables_rebuilt_by(revision).keys() == copied, revision


def test_migrations_name_all_tables_that_they_make(tmp_path):
    with closing(Database(f"sqlite:///{tmp_path / 'hookmirror.db'}")) as database:
        created = Schema(database).upgrade().created
        present = {name for name in inspect(database.engine).get_table_names() if "alembic_version_" not in name}
    named = {name for branch in BRANCHES for name in branch.tables_made_by(branch.revisions)}
    assert named == present - {"sqlite_sequence", *created}


@pytest.mark.parametrize("branch", BRANCHES, ids=lambda branch: branch.name)
def test_a_migration_imports_nothing_that_a_later_release_may_change(branch: Branch):
    for path in branch.folder.glob("v*.py"):
        imported = set(re.findall(r"^(?:from|import) (\w+)", path.read_text("utf-8"), re.MULTILINE))
        assert imported <= {"__future__", "alembic", "sqlalchemy"}, path.name


def test_a_read_only_file_is_refused_with_what_to_do(tmp_path):
    file = tmp_path / "hookmirror.db"
    with closing(Database(f"sqlite:///{file}")) as database:
        Schema(database).upgrade()
    with closing(sqlite3.connect(file)) as beside:
        beside.execute("PRAGMA journal_mode=DELETE")
    url = f"sqlite:///file:{file}?mode=ro&uri=true"
    with closing(Database(url)) as database, pytest.raises(OperationalError) as raised:
        Schema(database).prepare()
    assert "Give this user the right to write the file" in explain(raised.value, f"sqlite:///{file}")


# ── encodings ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "WIN1252"])
def test_a_database_that_cannot_hold_every_character_is_refused_by_every_start(databases, encoding):
    name = databases.create("template0", encoding=encoding)
    try:
        with closing(Database(databases.url(name))) as database:
            for begin in (Schema(database).check, Schema(database).upgrade, Schema(database).plan):
                with pytest.raises(
                    ConfigurationError, match=f"^The database is encoded in {encoding}, which cannot"
                ) as e:
                    begin()
                assert "\n" not in str(e.value)
            assert inspect(database.engine).get_table_names() == []
    finally:
        databases.drop(name)


def test_a_server_that_is_too_old_is_refused_by_every_start(postgresql_url, monkeypatch):
    monkeypatch.setattr("receiver.database.schema.OLDEST_POSTGRESQL", 99)
    with closing(Database(postgresql_url)) as database:
        for ask in (Schema(database).prepare, Schema(database).upgrade, Schema(database).plan):
            with pytest.raises(ConfigurationError, match="and 99 is the oldest that works: upgrade it, or name"):
                ask()


def test_the_client_encoding_of_the_environment_does_not_matter(databases, monkeypatch):
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    name = databases.create_with_tables()
    try:
        with closing(Database(databases.url(name))) as database, database.read() as connection:
            assert connection.execute(text("SELECT '😊'")).scalar_one() == "😊"
    finally:
        databases.drop(name)


def test_a_command_without_the_right_to_write_the_file_is_told_so_at_its_start(tmp_path, monkeypatch):
    """A mode of the URL stands for missing rights, which root has anyway."""
    file = f"{tmp_path}/hookmirror.db"
    with closing(Database(f"sqlite:///{file}")) as database:
        Schema(database).upgrade()
    with closing(Database(f"sqlite:///file:{file}?uri=true&mode=ro")) as database:
        Schema(database).open()
        monkeypatch.setattr("os.access", lambda path, _: path != file)
        with pytest.raises(OperationalError, match="attempt to write a readonly database"):
            Schema(database).open()
