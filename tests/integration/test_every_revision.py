"""A database of any earlier revision, with a row in each table and a value in each column, is upgraded without loss."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
from installed_schemas import newest_alone
from sqlalchemy import Column, Connection, MetaData, Table, text
from sqlalchemy.types import Boolean, DateTime, Float, Integer, LargeBinary, Numeric

from receiver.database.database import Database
from receiver.database.revisions import find_branches
from receiver.database.schema import Schema
from receiver.dialects.sources import find_dialects

find_dialects()

RECEIVER, *OTHERS = find_branches()

STATES = ("pending", "processing", "processed", "ignored", "dead")

MOMENT = datetime(2026, 6, 1, 12, tzinfo=UTC)

#: The number of rows in each table, so that there is one for each state.
ROWS = len(STATES)


@pytest.fixture(params=list(RECEIVER.revisions)[:-1])
def database(request, database_url):
    """Make a database of this revision, and fill its tables."""
    with closing(Database(database_url)) as opened:
        with opened.write() as connection:
            for branch in (newest_alone(RECEIVER, request.param), *OTHERS):
                Schema(opened)._upgrade(connection, branch)
            for table in tables_of(connection):
                rows = 1 if table.name == "identity" else ROWS
                connection.execute(table.delete())
                connection.execute(table.insert(), [row_of(table, number) for number in range(rows)])
        yield opened


def tables_of(connection: Connection) -> list[Table]:
    found = MetaData()
    found.reflect(connection)
    return [table for table in found.sorted_tables if not table.name.startswith("alembic_version_")]


def row_of(table: Table, number: int) -> dict[str, Any]:
    return {each.name: value_of(each, number) for each in table.columns if each.computed is None}


def value_of(column: Column[Any], number: int) -> Any:
    """Return a value of this column's type; that of the number 0 is another one than that of 1."""
    kind = column.type
    if column.name == "state":
        return STATES[number % len(STATES)]
    if isinstance(kind, Boolean):
        return bool(number % 2)
    if isinstance(kind, (Integer, Numeric, Float)):
        return number + 1
    if isinstance(kind, LargeBinary):
        return b"\x00\xff%d" % number
    moment = MOMENT.replace(second=number)
    if isinstance(kind, DateTime):
        return moment
    if column.name.endswith(("_at", "_until")):
        return moment.strftime("%Y-%m-%dT%H:%M:%S.000000Z")
    return f"{column.name} {number}"


def rows(database: Database, columns: dict[str, list[str]]) -> dict[str, Counter[str]]:
    with database.read() as connection:
        return {
            table: Counter(map(repr, connection.execute(text(f'SELECT {listed(names)} FROM "{table}"'))))
            for table, names in columns.items()
        }


def listed(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def test_every_value_of_every_column_survives_the_upgrade(database):
    with database.read() as connection:
        columns = {table.name: [each.name for each in table.columns] for table in tables_of(connection)}
    before = rows(database, columns)
    assert all(before.values())
    Schema(database).upgrade()
    Schema(database).check()
    assert rows(database, columns) == before
