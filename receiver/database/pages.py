"""Pages of rows, bounded in number and in bytes; each row is encoded as JSON as soon as it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce
from itertools import accumulate
from operator import add
from typing import Any, NamedTuple

from msgspec import Raw
from sqlalchemy import Boolean, ColumnElement, Connection, Integer, RowMapping, Select, Text, cast, func, literal

from receiver.codec import encode
from receiver.database.columns import ExactDecimal, UtcDateTime, by_kind
from receiver.database.database import Database

#: The size in bytes at which a page ends before its limit of rows.
LARGEST_PAGE_BYTES = 4 << 20


#: A guess at the bytes of a row's short columns, such as times and numbers.
SHORT_COLUMNS_BYTES = 200


class Page(NamedTuple):
    """One page: the rows as JSON, the last row as it was read, and whether more may follow."""

    #: Each item is encoded JSON already (`Raw`).
    items: list[Any]
    last: RowMapping | None
    more: bool


def read_page(
    database: Database,
    statement: Select[Any],
    show: Callable[[RowMapping], Any],
    *,
    limit: int,
    most_bytes: int = LARGEST_PAGE_BYTES,
) -> Page:
    """Read the first rows of the statement, formatted by `show`, up to `limit` and until `most_bytes` are reached.

    The first row is read however large it is.
    """
    with database.read() as connection:
        return read_page_on(connection, statement, show, limit=limit, most_bytes=most_bytes)


def read_page_on(
    connection: Connection,
    statement: Select[Any],
    show: Callable[[RowMapping], Any],
    *,
    limit: int,
    most_bytes: int = LARGEST_PAGE_BYTES,
    are_short: bool = False,
) -> Page:
    """Read a page as `read_page` does, within the caller's transaction.

    With `are_short`, no row has a column of more than a few kilobytes.
    """
    items: list[Raw] = []
    size, last = 0, None
    limit = limit if are_short else _how_many(connection, statement, limit, most_bytes)
    for row in _rows(connection, statement.limit(limit)):
        items.append(Raw(encode(show(row))))
        last, size = row, size + len(bytes(items[-1]))
        if size >= most_bytes:
            break
    return Page(items, last, len(items) == limit or size >= most_bytes)


def read_within(database: Database, statement: Select[Any], *, limit: int, most_bytes: int) -> Iterator[RowMapping]:
    """The first rows of the statement, at most `limit`; the caller may stop early.

    SQLite reads the rows one by one. PostgreSQL would send all of them at once, so it sends about `most_bytes`.
    """
    with database.read() as connection:
        yield from read_within_on(connection, statement, limit=limit, most_bytes=most_bytes)


def read_within_on(
    connection: Connection, statement: Select[Any], *, limit: int, most_bytes: int
) -> Iterator[RowMapping]:
    """Read as `read_within` does, within the caller's transaction."""
    return _rows(connection, statement.limit(_how_many(connection, statement, limit, most_bytes)))


def _rows(connection: Connection, statement: Select[Any]) -> Iterator[RowMapping]:
    with connection.execute(statement) as found:
        # PostgreSQL has sent all of them already, and reading them together takes a fraction of the time.
        yield from found.mappings().all() if connection.dialect.name == "postgresql" else found.mappings()


def _how_many(connection: Connection, statement: Select[Any], limit: int, most_bytes: int) -> int:
    """The number of the first rows that reach about `most_bytes`; `limit` if all do not, or if they come one by one.

    PostgreSQL knows the sizes without reading large values, because it stores them outside of the row.
    """
    if connection.dialect.name != "postgresql":
        return limit
    sizes = connection.execute(statement.with_only_columns(_size(statement)).limit(limit)).scalars().all()
    return next((number for number, size in enumerate(accumulate(sizes), 1) if size >= most_bytes), limit)


def _size(statement: Select[Any]) -> ColumnElement[int]:
    """The bytes of the columns that may be large; the others are short, and would have to be formatted first."""
    large = [column for column in statement.selected_columns if not by_kind(column.type, _SHORT, False)]
    sizes = (func.coalesce(func.octet_length(cast(column, Text)), 0) for column in large)
    return reduce(add, sizes, literal(SHORT_COLUMNS_BYTES))


#: Types whose values take a bounded number of bytes.
_SHORT = (((UtcDateTime, ExactDecimal, Integer, Boolean), True),)
