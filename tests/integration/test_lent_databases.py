"""Tests of lent databases: each is as if its tables had just been made, whatever the previous test did."""

from __future__ import annotations

from contextlib import closing

import psycopg
import pytest
from sqlalchemy import text

from receiver.database.database import Database

#: Statements after which a database is not lent again.
DOUBTS = {
    "a table": "CREATE TABLE stray (id int)",
    "a column": "ALTER TABLE products ADD COLUMN stray int",
    "an index": "CREATE INDEX stray ON products (name)",
    "a storage parameter": "ALTER TABLE products SET (fillfactor = 50)",
    "a constraint": "ALTER TABLE products ADD CONSTRAINT stray CHECK (name != '')",
    "a default": "ALTER TABLE products ALTER COLUMN name SET DEFAULT 'stray'",
    "a column that is gone": "ALTER TABLE products DROP COLUMN sku",
    "a table that is gone": "DROP TABLE products",
    "a function": "CREATE FUNCTION stray() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "a rule": "CREATE RULE stray AS ON DELETE TO products DO INSTEAD NOTHING",
    "a sequence": "CREATE SEQUENCE stray",
    "other steps of a sequence": "ALTER SEQUENCE changes_seq_seq INCREMENT 10",
    "a type": "CREATE TYPE stray AS ENUM ('a')",
    "a schema": "CREATE SCHEMA stray",
    "a right": "GRANT SELECT ON products TO PUBLIC",
    "a right that is gone": "REVOKE ALL ON SCHEMA public FROM PUBLIC",
    "statistics": "INSERT INTO attempts SELECT n, now(), 1, 'w', 'r' FROM generate_series(1, 9) n; ANALYZE attempts",
    "a setting": "DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = 64', current_database()); END$$",
    "the identity": "UPDATE identity SET name = 'another'",
    "the revision": "UPDATE alembic_version_receiver SET version_num = '0001'",
    "no identity": "DELETE FROM identity",
}


@pytest.fixture
def lend(databases, tmp_path):
    """Lend a database for a block."""
    return lambda: databases.lend(tmp_path)


def run(url: str, *statements: str) -> None:
    with closing(Database(url)) as database, database.write() as connection:
        for statement in statements:
            connection.execute(text(statement))


def count(url: str, table: str) -> int:
    with closing(Database(url)) as database, database.read() as connection:
        return connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()


def oid(url: str) -> int:
    """Return the id of the database, which is the same under another name."""
    with psycopg.connect(url) as session:
        return session.execute("SELECT oid FROM pg_database WHERE datname = current_database()").fetchone()[0]


CHANGE = (
    'INSERT INTO changes ("table", source, external_id, operation, before, after, changed_at, recorded_at) '
    "VALUES ('products', 's', '1', 'update', '{}', '{}', now(), now())"
)


def test_a_database_is_lent_again_without_its_rows_and_under_another_name(lend):
    with lend() as first:
        run(first, CHANGE, "INSERT INTO attempts VALUES (1, now(), 1, 'w', 'r')")
        used = oid(first)
    with lend() as second:
        assert (oid(second) == used, second == first) == (True, False)
        assert (count(second, "changes"), count(second, "attempts"), count(second, "identity")) == (0, 0, 1)


def test_numbers_begin_anew(lend):
    numbers = []
    for _ in range(2):
        with lend() as url:
            run(url, CHANGE)
            with psycopg.connect(url) as session:
                numbers.append(session.execute("SELECT seq FROM changes").fetchall())
    assert numbers[0] == numbers[1] == [(1,)]


def test_sessions_are_ended_at_the_end_of_the_block(lend):
    with lend() as first:
        left = psycopg.connect(first, autocommit=True)
    with left, pytest.raises(psycopg.OperationalError):
        left.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(first)


@pytest.mark.parametrize("statement", DOUBTS.values(), ids=DOUBTS)
def test_a_database_in_which_anything_but_rows_has_changed_is_not_lent_again(lend, statement):
    with lend() as first:
        changed = oid(first)
        with psycopg.connect(first) as session:
            session.execute(statement)
    with lend() as second:
        assert oid(second) != changed


def test_a_database_of_a_failed_block_is_not_lent_again(lend):
    failed = []

    def fail() -> None:
        with lend() as first:
            failed.append(oid(first))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with lend() as second:
        assert oid(second) not in failed
