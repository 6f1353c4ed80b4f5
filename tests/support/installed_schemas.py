"""Descriptions of a database's tables, and databases of earlier revisions."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url, text
from templates import make_tables

from receiver.database.database import Database
from receiver.database.revisions import Branch

SUPPORT = Path(__file__).parent


def restore(database_url: str, dump: str) -> None:
    """Fill an empty database from the dump of this name."""
    if database_url.startswith("postgresql"):
        with psycopg.connect(database_url) as connection:
            connection.execute((SUPPORT / f"{dump}.postgresql.sql").read_bytes())
    else:
        with closing(sqlite3.connect(str(make_url(database_url).database))) as connection:
            connection.executescript((SUPPORT / f"{dump}.sqlite.sql").read_text("utf-8"))


@contextmanager
def upgraded_installation(dump: str, system: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """Give the database of an installation of that time after its upgrade, on this system, for tests that copy it."""
    if system == "postgresql":
        databases = request.getfixturevalue("databases")
        name = databases.create()
        url = databases.url(name)
    else:
        url = f"sqlite:///{folder / 'upgraded.db'}"
    restore(url, dump)
    make_tables(url)
    yield url
    if system == "postgresql":
        databases.drop(name)


def catalog(database: Database) -> dict[str, Any]:
    """Return the database's own description of our tables, without its layout."""
    if not database.is_postgresql:
        with database.read() as connection:
            found = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
            told = {name: _without_layout(sql) for name, sql in found if not name.startswith("alembic_version_")}
        return {**told, **{f"{name} has": _columns_of(database, name) for name in told}}
    questions = (
        "SELECT table_name || '.' || column_name, data_type || is_nullable || coalesce(column_default, '') "
        "FROM information_schema.columns WHERE table_schema = 'public'",
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace",
    )
    with database.read() as connection:
        rows = [row for question in questions for row in connection.execute(text(question)).all()]
    return {name: told for name, told in rows if "alembic_version_" not in name}


def newest_alone(branch: Branch, newest: str) -> Branch:
    """Return the branch as it was when this revision was the newest."""
    earlier = Branch(branch.name, branch.package, branch.tables_of)
    vars(earlier)["revisions"] = {each: about for each, about in branch.revisions.items() if each <= newest}
    return earlier


def _columns_of(database: Database, table: str) -> set[tuple[Any, ...]]:
    with database.read() as connection:
        return {tuple(row[1:]) for row in connection.execute(text(f'PRAGMA table_info("{table}")'))}


def _without_layout(sql: str) -> list[str]:
    """Return the words of a statement; the parts of a table are sorted, because a column added later is the last."""
    words = re.sub(r"\s+", " ", sql).replace('"', "").replace("( ", "(").replace(" )", ")").replace(" ,", ",").strip()
    return sorted(re.split(r", (?![^(]*\))", words))
