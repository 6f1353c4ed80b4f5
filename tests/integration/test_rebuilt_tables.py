"""Upgrades of SQLite files copy tables: what other people added beside and to these tables stays, or is named."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from sqlalchemy import text

from receiver.database import revisions
from receiver.database.database import Database
from receiver.database.schema import Schema
from receiver.dialects.sources import find_dialects
from receiver.errors import ConfigurationError

find_dialects()

FIRST_SCHEMA = Path(__file__).parents[1] / "support" / "first_schema.sqlite.sql"


@pytest.fixture
def file(tmp_path):
    """Restore a file of the first release."""
    path = tmp_path / "hookmirror.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(FIRST_SCHEMA.read_text("utf-8"))
    return path


@pytest.fixture
def database(file):
    with closing(Database(f"sqlite:///{file}")) as opened:
        yield opened


def execute(file, *statements):
    with closing(sqlite3.connect(file)) as connection, connection:
        return [connection.execute(each).fetchall() for each in statements][-1]


def definition(file, name):
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", [name]).fetchone()


@pytest.mark.parametrize(
    "view",
    [
        "CREATE VIEW report AS SELECT id, reason FROM deliveries WHERE state = 'dead'",
        "CREATE VIEW report AS SELECT delivery_id, reason FROM attempts",
        "CREATE VIEW report AS SELECT delivery_id, length(body) FROM bodies",
    ],
)
def test_a_view_of_a_table_that_is_copied_stays_and_works(file, database, view):
    execute(file, view)
    before = execute(file, "SELECT * FROM report ORDER BY 1")
    Schema(database).upgrade()
    assert definition(file, "report") == (view,)
    assert (before, execute(file, "SELECT * FROM report ORDER BY 1")) == (before, before)
    assert before != []


def test_a_view_whose_table_is_gone_prevents_no_upgrade(file, database):
    execute(
        file, "CREATE TABLE theirs (id INTEGER)", "CREATE VIEW report AS SELECT id FROM theirs", "DROP TABLE theirs"
    )
    Schema(database).upgrade()
    assert definition(file, "report") == ("CREATE VIEW report AS SELECT id FROM theirs",)


@pytest.mark.parametrize(
    "added",
    [
        "CREATE INDEX added ON deliveries (event_type)",
        "CREATE INDEX added ON attempts (upper(reason)) WHERE number > 1",
        "CREATE TRIGGER added AFTER UPDATE ON deliveries BEGIN INSERT INTO log VALUES (new.id); END",
        "CREATE TRIGGER added AFTER INSERT ON log BEGIN UPDATE deliveries SET suspect = 0 WHERE id = new.id; END",
    ],
)
def test_an_index_or_trigger_of_ones_own_stays(file, database, added):
    execute(file, "CREATE TABLE log (id INTEGER)", added)
    Schema(database).upgrade()
    assert definition(file, "added") == (added,)


def test_a_trigger_of_ones_own_is_not_called_by_the_copy_and_is_afterwards(file, database):
    execute(
        file,
        "CREATE TABLE log (id INTEGER)",
        "CREATE TRIGGER added AFTER INSERT ON bodies BEGIN INSERT INTO log VALUES (new.delivery_id); END",
    )
    Schema(database).upgrade()
    execute(file, "INSERT INTO bodies (delivery_id, body, headers) VALUES (7, x'00', '{}')")
    assert execute(file, "SELECT id FROM log") == [(7,)]


def test_a_foreign_key_to_a_table_that_is_copied_still_names_it(file, database):
    notes = "CREATE TABLE notes (id INTEGER PRIMARY KEY, delivery INTEGER REFERENCES deliveries(id))"
    execute(file, notes, "INSERT INTO notes SELECT id, id FROM deliveries")
    Schema(database).upgrade()
    assert definition(file, "notes") == (notes,)
    assert execute(file, "PRAGMA foreign_key_check") == []


@pytest.mark.parametrize(("table", "revision"), [("deliveries", "0003"), ("bodies", "0003"), ("attempts", "0006")])
def test_a_column_of_ones_own_in_a_table_that_would_be_copied_without_it_is_named_and_nothing_is_lost(
    file, database, table, revision
):
    execute(file, f"ALTER TABLE {table} ADD COLUMN note TEXT DEFAULT 'x'")
    before = execute(file, f"SELECT * FROM {table}")
    for ask in (Schema(database).upgrade, Schema(database).plan):
        with pytest.raises(ConfigurationError) as raised:
            ask()
        assert str(raised.value) == (
            f"The table {table} has columns that hookmirror did not make, and that its migration to revision "
            f"{revision} of receiver would lose: note. Keep their values in a table of your own, and drop them for the "
            "upgrade."
        )
    assert (before, execute(file, f"SELECT * FROM {table}")) == (before, before)


def test_a_column_of_ones_own_in_a_table_that_is_not_copied_stays(file, database):
    execute(file, "ALTER TABLE changes ADD COLUMN note TEXT DEFAULT 'x'")
    Schema(database).upgrade()
    assert execute(file, "SELECT DISTINCT note FROM changes") == [("x",)]


def test_connections_rename_tables_as_usual_after_an_upgrade(database):
    Schema(database).upgrade()
    with database.read() as connection:
        assert connection.execute(text("PRAGMA legacy_alter_table")).scalar() == 0


# ── other packages ────────────────────────────────────────────────────────────────────────────────────────────

MAKES_SHELVES = """
from alembic import op
revision = "0001"
down_revision = None
TABLES = ("shelves",)

def upgrade():
    op.execute("CREATE TABLE shelves (id INTEGER PRIMARY KEY, colour TEXT)")
"""

REBUILDS_SHELVES = """
import sqlalchemy as sa
from alembic import op
revision = "0002"
down_revision = "0001"
REBUILT = {"shelves": None}

def upgrade():
    with op.batch_alter_table("shelves") as batch:
        batch.alter_column("colour", type_=sa.Integer)
"""

DROPS_COLOURS = """
from alembic import op
revision = "0002"
down_revision = "0001"
REBUILT = {"shelves": None}

def upgrade():
    op.execute("DROP TABLE shelves")
    op.execute("CREATE TABLE shelves (id INTEGER PRIMARY KEY)")
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return a function that writes the next migration of an installed package."""
    name = f"rebuilding_{tmp_path.name}".replace("-", "_")
    folder = tmp_path / name / "migrations"
    folder.mkdir(parents=True)
    for init in (folder.parent, folder):
        (init / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("rebuilding", f"{name}.migrations", revisions.MIGRATION_ENTRY_POINTS)
    monkeypatch.setattr(revisions, "entry_points", lambda group: [point])
    written = []

    def write(source):
        written.append(source)
        (folder / f"v{len(written):04}_step.py").write_text(source)

    yield write
    for module in [each for each in sys.modules if each.partition(".")[0] == name]:
        del sys.modules[module]


def test_a_table_that_alembic_copies_keeps_its_triggers_views_and_columns(file, package):
    package(MAKES_SHELVES)
    url = f"sqlite:///{file}"
    with closing(Database(url)) as database:
        Schema(database).upgrade()
    trigger = "CREATE TRIGGER added AFTER INSERT ON shelves BEGIN UPDATE shelves SET note = 'x' WHERE id = new.id; END"
    view = "CREATE VIEW report AS SELECT note FROM shelves"
    execute(
        file, "ALTER TABLE shelves ADD COLUMN note TEXT", trigger, view, "INSERT INTO shelves VALUES (1, 'red', '')"
    )
    package(REBUILDS_SHELVES)
    with closing(Database(url)) as database:
        assert [step.after for step in Schema(database).upgrade().steps] == ["0002"]
    assert (definition(file, "added"), definition(file, "report")) == ((trigger,), (view,))
    execute(file, "INSERT INTO shelves (id) VALUES (2)")
    assert execute(file, "SELECT note FROM report") == [("x",), ("x",)]


def test_an_index_that_cannot_be_made_again_ends_the_upgrade_with_its_name(file, package):
    package(MAKES_SHELVES)
    url = f"sqlite:///{file}"
    with closing(Database(url)) as database:
        Schema(database).upgrade()
    execute(file, "CREATE INDEX added ON shelves (upper(colour))")
    package(DROPS_COLOURS)
    with closing(Database(url)) as database, pytest.raises(ConfigurationError) as raised:
        Schema(database).upgrade()
    assert str(raised.value) == (
        "The index added of the table shelves, which hookmirror did not make, does not fit the migrated table (no such "
        "column: colour): drop it for the upgrade."
    )
    assert definition(file, "added") is not None
