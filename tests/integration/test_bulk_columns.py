"""Rows that are written in bulk keep the values of columns of any type, which dialects choose for their own tables."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    ARRAY,
    CHAR,
    Boolean,
    Column,
    Connection,
    Date,
    DateTime,
    Enum,
    Float,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    Time,
    Uuid,
    select,
)
from sqlalchemy.dialects.postgresql import BIT
from sqlalchemy.exc import DataError
from sqlalchemy.types import TypeEngine

from receiver import codec
from receiver.database.bulk import insert_rows, insertions
from receiver.database.columns import Document, ExactDecimal, UtcDateTime
from receiver.database.database import Database


class Colour(enum.Enum):
    RED = 1


#: Each type with some of its values, to which None is added.
KINDS: list[tuple[TypeEngine[Any], list[Any]]] = [
    (Text(), ["", "\U0001f600 \\u0000 \"'", "\u2028"]),
    (String(5), ["short"]),
    (CHAR(5), ["short"]),
    (String(collation="C"), ["ä"]),
    (ARRAY(Integer), [[], [1, 2]]),
    (ARRAY(Text), [["a", "b,c", None, '"']]),
    (ARRAY(Integer, dimensions=2), [[[1, 2], [3, 4]]]),
    (Integer(), [-(2**31)]),
    (Boolean(), [True, False]),
    (Float(), [0.1, 5e-324, 1.7976931348623157e308]),
    (Numeric(10, 2), [Decimal("1.50")]),
    (ExactDecimal(), [Decimal("1.10"), Decimal("1E+400"), Decimal("1E-1000"), Decimal("9" * 40 + "." + "1" * 40)]),
    (UtcDateTime(), [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)]),
    (DateTime(timezone=True), [datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=UTC)]),
    (Date(), [date(1, 1, 1), date(9999, 12, 31)]),
    (Time(), [time(23, 59, 59, 1)]),
    (Interval(), [timedelta(days=1, microseconds=1)]),
    (Uuid(), [uuid.UUID(int=5)]),
    (LargeBinary(), [b"", bytes(range(256))]),
    (Enum(Colour), [Colour.RED]),
    (Enum(Colour, native_enum=False), [Colour.RED]),
    (Document(), [{"a": Decimal("1.10"), "n": "\0", "x": 10**40}, [], "", 0, False]),
]


@pytest.fixture
def connection(postgresql_url) -> Iterator[Connection]:
    with closing(Database(postgresql_url)) as database, database.write() as opened:
        yield opened


def table_of(kind: TypeEngine[Any], connection: Connection) -> Table:
    table = Table("notes", MetaData(), Column("number", Integer, primary_key=True), Column("value", kind))
    table.create(connection)
    return table


@pytest.mark.parametrize(("kind", "values"), KINDS, ids=[repr(kind) for kind, _ in KINDS])
def test_the_values_of_a_column_of_any_type_come_back_equal(connection, kind, values):
    table = table_of(kind, connection)
    wanted = [*values, None]
    insert_rows(connection, table, ("number", "value"), list(enumerate(wanted)))
    found = connection.execute(select(table.c.value).order_by(table.c.number)).scalars().all()
    assert found == wanted
    assert list(map(type, found)) == list(map(type, wanted))


@pytest.mark.parametrize(
    ("kind", "value"), [(String(5), "too long"), (CHAR(5), "too long"), (BIT(5), "101")], ids=["text", "char", "bits"]
)
def test_a_value_of_another_length_than_the_column_s_is_refused_and_not_cut(connection, kind, value):
    table = table_of(kind, connection)
    with pytest.raises(DataError):
        insert_rows(connection, table, ("number", "value"), [(1, value)])


def test_rows_that_are_too_large_for_one_json_document_are_passed_in_several(connection, monkeypatch):
    monkeypatch.setattr("receiver.database.bulk.LARGEST_DOCUMENT", 100)
    table = table_of(Text(), connection)
    rows = [(number, "x" * size) for number, size in enumerate([10, 30, 90, 300, 20, 10, 10])]
    assert insert_rows(connection, table, ("number", "value"), rows) == len(rows)
    assert connection.execute(select(table).order_by(table.c.number)).all() == rows
    statements = insertions(connection.dialect, table, ("number", "value"), rows)
    assert [len(codec.decode(parameters[0])) for _, parameters in statements] == [1, 1, 1, 1, 1, 2]
