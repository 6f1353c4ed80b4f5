"""Rows with every type of column are unchanged after a copy from one system to the other and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from uuid import UUID

import pytest
import sqlalchemy as sa
from hypothesis import example, given
from hypothesis import strategies as st
from sqlmodel import AutoString

from examples import examples
from receiver.copying import slices
from receiver.copying.digests import differences, digest
from receiver.copying.slices import TableReader, Writer
from receiver.database.columns import Document, ExactDecimal, UtcDateTime
from receiver.database.database import Database
from receiver.errors import CopyError

METADATA = sa.MetaData()


class Colour(Enum):
    RED = "r"
    GREEN = "g"


ALL = sa.Table(
    "all_types",
    METADATA,
    sa.Column("source", AutoString, primary_key=True),
    sa.Column("moment", UtcDateTime, primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("text", sa.Text),
    sa.Column("exact", ExactDecimal),
    sa.Column("document", Document),
    sa.Column("flag", sa.Boolean),
    sa.Column("small", sa.Integer),
    sa.Column("bytes", sa.LargeBinary),
    sa.Column("float", sa.Float),
    sa.Column("numeric", sa.Numeric(12, 3)),
    sa.Column("json", sa.JSON),
    sa.Column("uuid", sa.Uuid),
    sa.Column("date", sa.Date),
    sa.Column("time", sa.Time),
    sa.Column("naive", sa.DateTime),
    sa.Column("interval", sa.Interval),
    sa.Column("colour", sa.Enum(Colour)),
)

COLOURS = sa.Table(
    "colours", METADATA, sa.Column("colour", sa.Enum(Colour), primary_key=True), sa.Column("note", sa.Text)
)

#: A table with the types that only one of the two systems takes at their word.
NARROW = sa.Table(
    "narrow_types",
    METADATA,
    sa.Column("code", sa.CHAR(4), primary_key=True),
    sa.Column("unit", sa.CHAR(3)),
    sa.Column("short", sa.String(5)),
    sa.Column("weight", sa.REAL),
    sa.Column("size", sa.Float(24)),
)

LETTERS = st.characters(codec="utf-8", exclude_characters="\0")
TEXT = st.text(LETTERS, max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30).map(
    lambda number: number if number else number.copy_abs()
)
MOMENTS = st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001

ROW = st.fixed_dictionaries(
    {
        "source": TEXT,
        "moment": MOMENTS,
        "number": st.integers(-(2**63), 2**63 - 1),
        "text": st.none() | TEXT,
        "exact": st.none() | DECIMALS,
        "document": st.none() | JSON,
        "flag": st.none() | st.booleans(),
        "small": st.none() | st.integers(-(2**31), 2**31 - 1),
        "bytes": st.none() | st.binary(max_size=40),
        "float": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "numeric": st.none() | st.decimals(-(10**6), 10**6, places=3),
        "json": JSON.filter(lambda value: value is not None),
        "uuid": st.none() | st.uuids(),
        "date": st.none() | st.dates(),
        "time": st.none() | st.times(),
        "naive": st.none() | st.datetimes(),
        "interval": st.none() | st.timedeltas(timedelta(0), timedelta(days=10_000)),
        "colour": st.none() | st.sampled_from(Colour),
    }
)
ROWS = st.lists(ROW, max_size=8, unique_by=lambda row: (row["source"], row["moment"], row["number"]))

HARD = {
    **dict.fromkeys(ALL.columns.keys()),
    "source": "\ufeff \t\\N\n\r'\"",
    "moment": datetime(1, 1, 2, tzinfo=UTC),
    "number": -(2**63),
    "text": "\\.",
    "exact": Decimal("19.90"),
    "document": {"price": Decimal("1.50"), "NUL": "\0"},
    "flag": False,
    "small": 2**31 - 1,
    "bytes": b"\\x00\0\xff",
    "float": 5e-324,
    "numeric": Decimal("0.100"),
    "json": {"b": [1.5, None], "a": "😊"},
    "uuid": UUID(int=1),
    "date": date(9999, 12, 31),
    "time": time(23, 59, 59, 999_999),
    "naive": datetime(2026, 3, 8, 2, 30),  # noqa: DTZ001
    "interval": timedelta(days=1, microseconds=1),
    "colour": Colour.GREEN,
}


@pytest.fixture(scope="module")
def engines(databases, tmp_path_factory):
    """Give SQLite and PostgreSQL, each with the table."""
    name = databases.create()
    folder = tmp_path_factory.mktemp("slices")
    with closing(Database(f"sqlite:///{folder}/file.db")) as file, closing(Database(databases.url(name))) as server:
        for database in (file, server):
            with database.write() as connection:
                METADATA.create_all(connection)
        yield file, server
    databases.drop(name)


@contextmanager
def undone(database) -> Iterator[sa.Connection]:
    """Run a transaction that is rolled back."""
    with database.write() as connection:
        yield connection
        connection.rollback()


@contextmanager
def both(engines, *, back: bool = False):
    with undone(engines[0]) as file, undone(engines[1]) as server:
        yield (server, file) if back else (file, server)


def fill(connection, rows):
    if rows:
        connection.execute(sa.insert(ALL), rows)


def typed(connection) -> list:
    found = connection.execute(sa.select(ALL)).mappings().all()
    return sorted((dict(row) for row in found), key=lambda row: (row["source"], row["moment"], row["number"]))


def with_digits(row):
    """Return the row with every digit of its decimal: 1.0 and 1.00 are equal, but not the same."""
    return {**row, "exact": None if row["exact"] is None else format(row["exact"], "f")}


def readers(source, target, table=ALL) -> tuple[TableReader, TableReader]:
    return TableReader(source, table, other=target.dialect), TableReader(target, table, other=source.dialect)


def carry(source, target, table=ALL) -> tuple[TableReader, TableReader]:
    ours, theirs = readers(source, target, table)
    for some in ours.slices():
        Writer(target, ours).write(some.rows)
    return ours, theirs


@pytest.mark.parametrize("back", [False, True], ids=["sqlite to postgresql", "postgresql to sqlite"])
def test_rows_of_every_type_arrive_unchanged(engines, back, monkeypatch):
    monkeypatch.setattr(slices, "ROWS", 3)

    @examples(5)
    @given(ROWS)
    @example([HARD])
    @example([HARD | {"float": -0.0}])
    def holds(rows):
        with both(engines, back=back) as (source, target):
            fill(source, rows)
            ours, theirs = carry(source, target)
            assert digest(theirs) == digest(ours)
            assert digest(ours).rows == len(rows)
            assert differences(ours, theirs) == []
            found = typed(target)
        wanted = sorted(rows, key=lambda row: (row["source"], row["moment"], row["number"]))
        assert list(map(with_digits, found)) == list(map(with_digits, wanted))

    holds()


def test_a_null_of_json_stays_apart_from_a_missing_value(engines):
    for back in (False, True):
        with both(engines, back=back) as (source, target):
            fill(source, [HARD | {"number": 1, "json": sa.JSON.NULL}, HARD | {"number": 2, "json": sa.null()}])
            ours, theirs = carry(source, target)
            assert digest(theirs) == digest(ours)
            missing = sa.select(ALL.c.number).where(sa.type_coerce(ALL.c.json, sa.Text).is_(None))
            assert target.execute(missing).scalars().all() == [2]


@pytest.mark.parametrize(
    "number", ["1.0", "1e3", "-0.0", "1e22", "9007199254740993", "[12345678901234567890.123]", "0.1"]
)
def test_a_number_of_json_is_the_same_in_every_form_that_a_database_writes(engines, number):
    with both(engines, back=True) as (source, target):
        fill(source, [HARD])
        source.execute(sa.text(f"UPDATE all_types SET json = '{number}'"))
        ours, theirs = carry(source, target)
        assert digest(theirs) == digest(ours)


def test_a_table_whose_key_is_a_name_of_a_list_is_copied(engines, monkeypatch):
    monkeypatch.setattr(slices, "ROWS", 1)
    rows = [{"colour": colour, "note": colour.value} for colour in Colour]
    for back in (False, True):
        with both(engines, back=back) as (source, target):
            source.execute(sa.insert(COLOURS), rows)
            ours = TableReader(source, COLOURS, other=target.dialect)
            for some in ours.slices():
                Writer(target, ours).write(some.rows)
            assert digest(TableReader(target, COLOURS, other=source.dialect)) == digest(ours)
            assert len(target.execute(sa.select(COLOURS)).all()) == len(rows)


def test_a_digest_does_not_depend_on_the_order_and_changes_with_every_column(engines):
    with both(engines) as (source, target):
        fill(source, [HARD, HARD | {"number": 2}])
        fill(target, [HARD | {"number": 2}, HARD])
        ours, theirs = readers(source, target)
        assert digest(ours) == digest(theirs)
        for column in ALL.columns:
            if not column.primary_key:
                target.execute(sa.update(ALL).where(ALL.c.number == 2).values({column.name: None}))
                (found,) = differences(ours, theirs)
                assert (found.what, found.key.rpartition("=")[2]) == ("different", "2"), column.name
                target.execute(sa.update(ALL).values({column.name: HARD[column.name]}))


def test_a_slice_ends_before_it_exceeds_its_bytes(engines, monkeypatch):
    monkeypatch.setattr(slices, "BYTES", 100_000)
    with both(engines) as (source, target):
        sizes = [10, 60_000, 60_000, 10, 10, 500_000, 10]
        fill(source, [HARD | {"number": at, "bytes": bytes(size)} for at, size in enumerate(sizes)])
        found = [[len(row[8]) for row in some.rows] for some in readers(source, target)[0].slices()]
        fill(target, [HARD | {"number": at, "bytes": bytes(size)} for at, size in enumerate(sizes)])
        again = [[len(row[8]) for row in some.rows] for some in readers(source, target)[1].slices()]
    assert found == again == [[10, 60_000], [60_000, 10, 10], [500_000], [10]]


def test_reading_continues_after_the_last_known_key(engines, monkeypatch):
    monkeypatch.setattr(slices, "ROWS", 2)
    with both(engines) as (source, target):
        fill(source, [HARD | {"number": at} for at in range(7)])
        fill(target, [HARD | {"number": at} for at in range(7)])
        for reader in readers(source, target):
            parts = list(reader.slices())
            rest = [row for some in reader.slices(after=parts[1].last) for row in some.rows]
            assert rest == [row for some in parts[2:] for row in some.rows]
            assert [len(some.rows) for some in parts] == [2, 2, 2, 1]


def test_a_row_that_the_other_database_refuses_is_named_and_its_slice_is_not_written(engines):
    with both(engines) as (source, target):
        target.execute(sa.text("ALTER TABLE all_types ADD CHECK (number <> 3)"))
        fill(source, [HARD | {"number": at} for at in range(5)])
        with pytest.raises(CopyError, match=r"all_types source=.*number=3: TO refuses this row \(.*check constraint"):
            carry(source, target)
        assert typed(target) == []


def test_a_number_that_sqlite_would_round_is_refused(engines):
    with both(engines, back=True) as (source, target):
        source.execute(sa.text('ALTER TABLE all_types ALTER COLUMN "numeric" TYPE numeric'))
        fill(source, [HARD])
        source.execute(sa.text('UPDATE all_types SET "numeric" = 12345678901234567890.123'))
        with pytest.raises(CopyError, match="numeric holds more digits than SQLite keeps"):
            carry(source, target)


def test_a_number_that_postgresql_would_round_is_refused(engines):
    with both(engines) as (source, target):
        fill(source, [HARD | {"numeric": Decimal("19.9995")}])
        with pytest.raises(CopyError, match=r"numeric holds 19\.9995, which PostgreSQL would round to 3 digits"):
            carry(source, target)


@pytest.mark.parametrize(
    ("column", "says"),
    [
        ("date", "date holds a value that its type does not read (ValueError: Invalid isoformat string: 'odd')"),
        ("colour", "colour holds a value that its type does not read (LookupError: 'odd' is not among the defined"),
    ],
)
def test_a_value_that_its_type_does_not_read_is_refused_by_key_and_column(engines, column, says):
    with both(engines) as (source, target):
        fill(source, [HARD | {"number": at} for at in range(3)])
        source.execute(sa.text(f"UPDATE all_types SET {column} = 'odd' WHERE number = 1"))
        told = []
        rows = [
            row
            for some in TableReader(source, ALL, other=target.dialect, problem=told.append).slices()
            for row in some.rows
        ]
        assert [row[2] for row in rows] == [0, 2]
        (problem,) = map(str, told)
        assert says in problem
        assert "number=1" in problem


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("date", "infinity", "its type does not read (DataError"),
        ("naive", "infinity", "its type does not read (DataError"),
        ("interval", "200000000 days", "the other database cannot keep (OverflowError"),
    ],
)
def test_a_time_beyond_the_years_of_another_type_is_refused_by_key_and_column(engines, column, value, says):
    with both(engines, back=True) as (source, target):
        fill(source, [HARD | {"number": at} for at in range(3)])
        source.execute(sa.text(f"UPDATE all_types SET {column} = '{value}' WHERE number = 1"))
        told = []
        reader = TableReader(source, ALL, other=target.dialect, problem=told.append)
        assert [row[2] for some in reader.slices() for row in some.rows] == [0, 2]
        (problem,) = map(str, told)
        assert f"number=1: {column} holds a value that {says}" in problem


@pytest.mark.parametrize("back", [False, True], ids=["sqlite to postgresql", "postgresql to sqlite"])
def test_padded_texts_and_floats_of_four_bytes_are_equal_on_both_databases(engines, back, monkeypatch):
    monkeypatch.setattr(slices, "ROWS", 1)
    rows = [
        {"code": code, "unit": "m", "short": "ab", "weight": weight, "size": 0.1}
        for code, weight in [("ab", 0.1), ("ab\t", 19.99), ("abc", 3.4e38), ("", None), (" x", -1e-40), ("z", 16777216)]
    ]
    with both(engines, back=back) as (source, target):
        source.execute(sa.insert(NARROW), rows)
        ours, theirs = carry(source, target, NARROW)
        assert digest(theirs) == digest(ours)
        assert (digest(ours).rows, differences(ours, theirs)) == (len(rows), [])
        found = target.execute(sa.select(NARROW.c.code, NARROW.c.unit, NARROW.c.weight)).all()
    assert {(code.rstrip(" "), unit.rstrip(" "), weight) for code, unit, weight in found} == {
        (row["code"], "m", row["weight"]) for row in rows
    }


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("unit", "metre", r"unit holds 5 characters, and this column takes 3 on PostgreSQL"),
        ("short", "ab    ", r"short holds 6 characters, and this column takes 5 on PostgreSQL"),
        ("weight", 0.123456789, r"weight holds 0\.123456789, which PostgreSQL would round to 0\.12345679 "),
        ("weight", 0.98765433, r"weight holds 0\.98765433, which PostgreSQL would round to 0\.9876543 "),
        ("weight", 9e9, r"weight holds 9000000000\.0, which PostgreSQL would round to 8999999000\.0 "),
        ("size", 1e300, r"size holds 1e\+300, which PostgreSQL would round to inf"),
    ],
)
def test_a_value_that_postgresql_would_cut_or_round_is_refused(engines, column, value, says):
    with both(engines) as (source, target):
        source.execute(sa.insert(NARROW), [{"code": "a", column: value}])
        with pytest.raises(CopyError, match=f"narrow_types code=a: {says}"):
            carry(source, target, NARROW)


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("float", "'NaN'", "float holds NaN, which SQLite cannot keep"),
        (
            "json",
            "'12345678901234567890'",
            "json holds a number in JSON with more digits than SQLite keeps outside of a",
        ),
        ("numeric", "'NaN'", "numeric holds a number that SQLite keeps only in a column for an exact decimal"),
    ],
)
def test_a_value_that_sqlite_would_lose_is_refused(engines, column, value, says):
    with both(engines, back=True) as (source, target):
        fill(source, [HARD])
        source.execute(sa.text(f'UPDATE all_types SET "{column}" = {value}'))
        with pytest.raises(CopyError, match=says):
            carry(source, target)


@pytest.mark.parametrize(
    ("text", "says"),
    [("'{'", "json holds text that is not JSON"), ("'[NaN]'", "json holds NaN in JSON, which PostgreSQL cannot keep")],
)
def test_json_that_postgresql_would_refuse_is_refused_before(engines, text, says):
    with both(engines) as (source, target):
        fill(source, [HARD])
        source.execute(sa.text(f"UPDATE all_types SET json = {text}"))
        with pytest.raises(CopyError, match=says):
            carry(source, target)


def test_nan_in_json_is_copied_from_one_sqlite_file_to_another(engines):
    with undone(engines[0]) as source:
        fill(source, [HARD, HARD | {"number": 1}])
        source.execute(sa.text("UPDATE all_types SET json = 'NaN' WHERE number = 1"))
        reader = TableReader(source, ALL, other=source.dialect)
        assert digest(reader).rows == 2
