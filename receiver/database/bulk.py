"""Inserts many rows by one statement, without SQLAlchemy's expensive parts (docs/decisions/0009).

Its text does not depend on the number of rows, so that each table has a few prepared statements at most: preparing one
costs more than running it. SQLite gets rows of parameters, some of them padding; PostgreSQL gets one JSON document
with an array for each row, or a few if one would be too large.
Statements can be made ready before the transaction in which they run, because that takes longer than running them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any, NamedTuple

from sqlalchemy import (
    JSON,
    Boolean,
    Connection,
    Date,
    DateTime,
    Dialect,
    Enum,
    Integer,
    LargeBinary,
    Numeric,
    String,
    Table,
    Time,
    Uuid,
)
from sqlalchemy.types import TypeDecorator, TypeEngine

from receiver import codec

#: Rows of one statement on SQLite. Larger statements gain hardly anything.
SIZES = (1, 2, 4, 8, 16, 32, 64)

#: The most bytes of a JSON document with several rows. PostgreSQL takes documents of up to 256 MB.
LARGEST_DOCUMENT = 64 * 1024 * 1024


class Statement(NamedTuple):
    """A statement in the driver's syntax, ready to run."""

    sql: str
    parameters: tuple[Any, ...]


def execute_all(connection: Connection, statements: Iterable[Statement]) -> int:
    """Run the statements. Returns how many rows were touched."""
    return sum(connection.exec_driver_sql(*statement).rowcount for statement in statements)


def insert_rows(
    connection: Connection, table: Table, names: tuple[str, ...], rows: Sequence[Sequence[Any]], *, conflict: str = ""
) -> int:
    """Insert rows whose values stand in the order of the columns `names`. Returns how many rows were touched.

    `conflict` is an ON CONFLICT clause.
    """
    return execute_all(connection, insertions(connection.dialect, table, names, rows, conflict=conflict))


def insert_mappings(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], *, conflict: str = ""
) -> int:
    """Insert rows as `insert_rows` does, given as mappings that all have the same columns in the same order."""
    return execute_all(connection, insertions_of(connection.dialect, table, rows, conflict=conflict))


def insertions_of(
    dialect: Dialect, table: Table, rows: Sequence[Mapping[str, Any]], *, conflict: str = ""
) -> list[Statement]:
    """Make the statements of `insert_mappings`."""
    names = tuple(rows[0]) if rows else ()
    return insertions(dialect, table, names, [tuple(row.values()) for row in rows], conflict=conflict)


def insertions(
    dialect: Dialect, table: Table, names: tuple[str, ...], rows: Sequence[Sequence[Any]], *, conflict: str = ""
) -> list[Statement]:
    """Make the statements of `insert_rows`."""
    if not rows:
        return []
    # Column by column, because most columns need no processing.
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
    for position, process in _processors(table, names, dialect):
        columns[position] = _processed(columns[position], process)
    processed = list(zip(*columns, strict=True))
    if dialect.name == "postgresql":
        statement = _json_statement(table, names, conflict, dialect)
        return [Statement(statement, (document,)) for document in _documents(processed)]
    return [
        Statement(_values_statement(table, names, size, conflict), padded(some, size, len(names)))
        for some, size in portions(processed)
    ]


def _documents(rows: Sequence[tuple[Any, ...]]) -> Iterator[str]:
    """Yield the rows as JSON: in one document, if it is not too large."""
    document = codec.encode(rows)
    if len(document) <= LARGEST_DOCUMENT or len(rows) == 1:
        yield document.decode()
        return
    half = len(rows) // 2
    yield from _documents(rows[:half])
    yield from _documents(rows[half:])


def _processed(column: Sequence[Any], process: Callable[[Any], Any]) -> list[Any]:
    if column[0] is column[-1] and len(set(map(id, column))) == 1:
        # One value for all rows, such as the time of a settlement.
        return [process(column[0])] * len(column)
    return list(map(process, column))


def portions(
    rows: Sequence[tuple[Any, ...]], sizes: Sequence[int] = SIZES
) -> list[tuple[Sequence[tuple[Any, ...]], int]]:
    """Divide the rows into portions, each with the size of its statement, one of `sizes`."""
    largest = sizes[-1]
    some = [rows[start : start + largest] for start in range(0, len(rows), largest)]
    return [(portion, next(size for size in sizes if size >= len(portion))) for portion in some]


def padded(rows: Sequence[tuple[Any, ...]], size: int, width: int) -> tuple[Any, ...]:
    """The parameters of `values(width, size)`: those of the rows, padding, and the number of rows."""
    # Not None, which the driver takes several times as long to bind.
    padding = ("",) * ((size - len(rows)) * width)
    return (*chain.from_iterable(rows), *padding, len(rows))


@cache
def values(width: int, size: int) -> str:
    """Format a SELECT of `size` rows of parameters for SQLite; the last parameter is the number of rows to use."""
    row = f"({', '.join(['?'] * width)})"
    # Without the condition, SQLite would parse a following ON CONFLICT as a part of a join.
    return f"SELECT * FROM (VALUES {', '.join([row] * size)}) WHERE true LIMIT ?"  # noqa: S608 (only marks)


@cache
def replace_clause(table: Table, but: tuple[str, ...] = ()) -> str:
    """The ON CONFLICT clause that makes an INSERT an upsert of whole rows, which keeps the columns in `but`."""
    keys = ", ".join(f'"{column.name}"' for column in table.primary_key)
    set_again = [column.name for column in table.columns if not column.primary_key and column.name not in but]
    rest = ", ".join(f'"{name}" = excluded."{name}"' for name in set_again)
    return f"ON CONFLICT ({keys}) DO UPDATE SET {rest}"


# Names come from our own table definitions, and every value travels as a parameter.


@cache
def _values_statement(table: Table, names: tuple[str, ...], size: int, conflict: str) -> str:
    return f"{_insert_into(table, names)} {values(len(names), size)} {conflict}"


@cache
def _json_statement(table: Table, names: tuple[str, ...], conflict: str, dialect: Dialect) -> str:
    taken = ", ".join(_from_json(place, table.c[name].type, dialect) for place, name in enumerate(names))
    # Not json_to_recordset, which makes a hash table for each row; and not json, which is parsed for each value.
    source = "jsonb_array_elements(CAST(%s AS jsonb)) AS given"
    return f"{_insert_into(table, names)} SELECT {taken} FROM {source} {conflict}"  # noqa: S608


def _insert_into(table: Table, names: tuple[str, ...]) -> str:
    columns = ", ".join(f'"{name}"' for name in names)
    return f'INSERT INTO "{table.name}" ({columns})'


def _from_json(place: int, kind: TypeEngine[Any], dialect: Dialect) -> str:
    """The expression that reads a column from its place in a row, which is a JSON array."""
    inside, name = _inside(kind, dialect), kind.compile(dialect)
    if isinstance(inside, LargeBinary):
        return f"decode(given ->> {place}, 'base64')"
    if isinstance(inside, String) and not isinstance(inside, Enum):
        # Without a cast, which would cut text to the column's length instead of failing.
        return f"given ->> {place}"
    if isinstance(inside, _CAST):
        return f"CAST(given ->> {place} AS {name})"
    # Other types, such as arrays, are not always read from their JSON text.
    return f"(SELECT it FROM jsonb_to_record(jsonb_build_object('it', given -> {place})) AS read (it {name}))"  # noqa: S608


#: The types whose text a cast reads as the column would.
_CAST = (Integer, Numeric, Boolean, DateTime, Date, Time, Uuid, JSON)


def _inside(kind: TypeEngine[Any], dialect: Dialect) -> TypeEngine[Any]:
    return kind.load_dialect_impl(dialect) if isinstance(kind, TypeDecorator) else kind


@cache
def _processors(table: Table, names: tuple[str, ...], dialect: Dialect) -> list[tuple[int, Callable[[Any], Any]]]:
    found = [_processor(table.c[name].type, dialect) for name in names]
    return [(position, process) for position, process in enumerate(found) if process is not None]


def _processor(kind: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    if dialect.name == "postgresql" and isinstance(_inside(kind, dialect), LargeBinary):
        # Bytes are encoded with the rest of the JSON.
        return None
    return kind.dialect_impl(dialect).bind_processor(dialect)
