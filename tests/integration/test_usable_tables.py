"""Tables that are not as the migrations left them, and policies that hide rows: a start says so, and no row is lost."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import closing
from types import SimpleNamespace

import pytest
from sqlalchemy import Column, Computed, Identity, Integer, MetaData, Table, text
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Field, SQLModel

from receiver.api.readiness import Readiness
from receiver.database.database import Database
from receiver.database.errors import explain
from receiver.database.schema import Schema
from receiver.database.usable_tables import refuse_unusable_tables
from receiver.dialects.sources import find_dialects
from receiver.errors import ConfigurationError
from receiver.inbox.inbox import Inbox

find_dialects()

SEPARATE_SCHEMA = ("CREATE SCHEMA other", "CREATE TABLE other.deliveries (id BIGINT)")
HIDDEN = ("ALTER TABLE deliveries ENABLE ROW LEVEL SECURITY", "CREATE POLICY none ON deliveries USING (false)")


@pytest.fixture
def database(database_url):
    with closing(Database(database_url)) as opened:
        Schema(opened).upgrade()
        yield opened


@pytest.fixture
def owned(postgresql_url):
    with closing(Database(postgresql_url)) as opened:
        Schema(opened).upgrade()
        yield opened


@pytest.fixture
def lesser(owned):
    """The same database, for a role that only reads and writes rows."""
    role = f"lesser_{secrets.token_hex(6)}"
    run(owned, f"CREATE ROLE {role} LOGIN")
    for things in ("TABLES", "SEQUENCES"):
        run(owned, f"GRANT ALL ON ALL {things} IN SCHEMA public TO {role}")
    with closing(Database(url_of(owned, role))) as opened:
        yield opened
    run(owned, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def url_of(database, role="postgres"):
    return database.engine.url.set(username=role, query={}).render_as_string(hide_password=False)


def run(database, *statements):
    with database.write() as connection:
        for statement in statements:
            connection.execute(text(statement))


def refusal(database):
    with pytest.raises(ConfigurationError) as raised:
        Schema(database).check()
    return str(raised.value)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("DROP TABLE attempts", "lacks the table attempts, which a migration made: restore it from a backup."),
        ("ALTER TABLE bodies DROP COLUMN headers", "The table bodies lacks headers, which a migration made: restore"),
    ],
)
def test_a_table_that_lost_what_a_migration_made_is_refused(database, damage, says):
    run(database, damage)
    assert says in refusal(database)
    with pytest.raises(ConfigurationError, match="which a migration made: restore it from a backup"):
        Schema(database).upgrade()


def test_a_column_of_a_stranger_that_demands_a_value_is_refused_and_any_other_is_not(owned):
    run(owned, "ALTER TABLE bodies ADD COLUMN tenant INTEGER NOT NULL DEFAULT 1, ADD COLUMN note TEXT")
    Schema(owned).check()
    run(owned, "ALTER TABLE bodies ALTER COLUMN tenant DROP DEFAULT")
    assert "stored in the table bodies, because its column tenant is not this release's" in refusal(owned)


def test_a_column_of_a_stranger_that_gets_its_value_from_a_domain_or_a_trigger_is_not_refused(owned):
    run(owned, "CREATE DOMAIN tenant AS INTEGER NOT NULL DEFAULT 1", "ALTER TABLE bodies ADD COLUMN tenant tenant")
    run(owned, "ALTER TABLE bodies ADD COLUMN region TEXT NOT NULL")
    assert "its column region is not this release's" in refusal(owned)
    run(
        owned,
        "CREATE FUNCTION place() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.region := 1; RETURN NEW; END'",
        "CREATE TRIGGER place BEFORE INSERT ON bodies FOR EACH ROW EXECUTE FUNCTION place()",
    )
    Schema(owned).check()
    run(owned, "ALTER TABLE bodies DISABLE TRIGGER place")
    assert "its column region is not this release's" in refusal(owned)


def test_a_view_of_a_stranger_whose_table_is_gone_prevents_no_start(database):
    run(database, "CREATE TABLE theirs (id INTEGER)", "CREATE VIEW report AS SELECT id FROM theirs")
    run(database, "DROP TABLE theirs CASCADE" if database.is_postgresql else "DROP TABLE theirs")
    Schema(database).upgrade()
    Schema(database).check()


def test_a_table_of_a_package_is_found_in_the_schema_that_it_declares(owned, monkeypatch):
    other = Table("deliveries", MetaData(), Column("id", Integer), schema="Other")
    monkeypatch.setattr("receiver.database.usable_tables.SQLModel", SimpleNamespace(metadata=other.metadata))
    with owned.read() as connection, pytest.raises(ConfigurationError, match="lacks the table deliveries"):
        refuse_unusable_tables(connection, setting="database_url")
    run(owned, 'CREATE SCHEMA "Other"', 'CREATE TABLE "Other".deliveries (id BIGINT)')
    with owned.read() as connection:
        refuse_unusable_tables(connection, setting="database_url")


@pytest.fixture(scope="module")
def priced():
    """Declare a table of a package without migrations, with a column that the database computes."""

    class Priced(SQLModel, table=True):
        __tablename__ = "prices_of_these_tests"

        id: int = Field(primary_key=True)
        gross: int = Field(sa_column=Column(Integer, Computed("id * 2", persisted=True), nullable=False))

    yield
    SQLModel.metadata.remove(Priced.__table__)


@pytest.mark.usefixtures("priced")
def test_a_declared_column_that_the_database_computes_is_not_taken_for_a_lost_one(database):
    Schema(database).upgrade()
    Schema(database).check()


@pytest.fixture
def apart(owned):
    """Declare a table of a package without migrations, in a schema of its own."""

    class Apart(SQLModel, table=True):
        __tablename__ = "notes_of_these_tests"
        __table_args__ = {"schema": "extra"}

        id: int = Field(primary_key=True)

    run(owned, "CREATE SCHEMA extra")
    yield owned
    SQLModel.metadata.remove(Apart.__table__)


def test_a_table_in_a_schema_of_its_own_is_made_once_and_found(apart):
    assert Schema(apart).upgrade().created == ["notes_of_these_tests"]
    assert Schema(apart).upgrade().created == []
    Schema(apart).check()
    run(apart, "ALTER TABLE extra.notes_of_these_tests DROP COLUMN id")
    assert "run `ALTER TABLE extra.notes_of_these_tests ADD COLUMN id" in refusal(apart)


@pytest.fixture
def numbered():
    """Declare a table whose numbers PostgreSQL gives, for which no right to a sequence is needed."""
    number = Column("id", Integer, Identity(), primary_key=True)
    table = Table("numbers_of_these_tests", SQLModel.metadata, number)
    yield
    SQLModel.metadata.remove(table)


def test_a_role_needs_no_right_to_the_sequence_of_an_identity_column(numbered, owned, lesser):
    Schema(owned).upgrade()
    role = lesser.engine.url.username
    run(owned, f"GRANT ALL ON numbers_of_these_tests TO {role}")
    run(owned, f"REVOKE ALL ON SEQUENCE numbers_of_these_tests_id_seq FROM {role}")
    Schema(lesser).check()


def test_a_table_of_the_same_name_in_an_earlier_schema_is_not_taken_for_ours(owned):
    run(owned, *SEPARATE_SCHEMA)
    with closing(Database(f"{url_of(owned)}?options=-csearch_path%3Dother,public")) as astray:
        assert "`search_path` names several schemas, let it name the right one." in refusal(astray)


def test_row_level_security_that_applies_to_the_role_is_refused_with_what_to_do(owned, lesser):
    Schema(lesser).check()
    run(owned, *HIDDEN)
    assert "hide rows of deliveries from the role lesser_" in refusal(lesser)
    assert "`ALTER TABLE … DISABLE ROW LEVEL SECURITY` for each, or `ALTER ROLE … BYPASSRLS`." in refusal(lesser)
    Schema(owned).check()


def test_a_policy_made_while_processes_run_fails_their_statements_instead_of_hiding_rows(owned, lesser):
    run(owned, *HIDDEN)
    with pytest.raises(SQLAlchemyError) as raised, lesser.read() as connection:
        connection.execute(text("SELECT count(*) FROM deliveries"))
    assert "DISABLE ROW LEVEL SECURITY` for the table" in explain(raised.value, url_of(lesser))
    with closing(Readiness(Inbox(lesser), ["shop"], max_backlog_seconds=900)) as readiness:
        reason = asyncio.run(readiness.reason())
    assert reason == "The database refuses this process a right on its tables: run `hookmirror doctor`, which names it."
