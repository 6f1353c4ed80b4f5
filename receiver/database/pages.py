"""Pages of rows, bounded in number and in bytes; each row is encoded as JSON as soon as it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from itertools import accumulate
from math import inf
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
    for row in read_within_on(connection, statement, limit=limit, most_bytes=inf if are_short else most_bytes):
        items.append(Raw(encode(show(row))))
        last, size = row, size + len(bytes(items[-1]))
        if size >= most_bytes:
            break
    return Page(items, last, len(items) == limit or size >= most_bytes)


def read_within(database: Database, statement: Select[Any], *, limit: int, most_bytes: int) -> Iterator[RowMapping]:
    """The first rows of the statement, at most `limit`; the caller may stop early.

    SQLite reads the rows one by one. PostgreSQL would send all of them at once, so a first query asks for their sizes,
    which PostgreSQL knows without reading large values, because it stores them outside of the row.
    """
    with database.read() as connection:
        yield from read_within_on(connection, statement, limit=limit, most_bytes=most_bytes)


def read_within_on(
    connection: Connection, statement: Select[Any], *, limit: int, most_bytes: float
) -> Iterator[RowMapping]:
    """Read as `read_within` does, within the caller's transaction.

    With infinite `most_bytes`, the rows are not asked for their sizes.
    """
    is_postgresql = connection.dialect.name == "postgresql"
    if is_postgresql and most_bytes < inf:
        sizes = connection.execute(statement.with_only_columns(_size(statement)).limit(limit)).scalars().all()
        limit = _how_many(sizes, most_bytes)
    with connection.execute(statement.limit(limit)) as found:
        # PostgreSQL has sent all of them already, and reading them together takes a fraction of the time.
        yield from found.mappings().all() if is_postgresql else found.mappings()


def _size(statement: Select[Any]) -> ColumnElement[int]:
    """The bytes of the columns that may be large; the others are short, and would have to be formatted first."""
    large = [column for column in statement.selected_columns if not by_kind(column.type, _SHORT, False)]
    sizes = (func.coalesce(func.octet_length(cast(column, Text)), 0) for column in large)
    return reduce(add, sizes, literal(SHORT_COLUMNS_BYTES))


#: Types whose values take a bounded number of bytes.
_SHORT = (((UtcDateTime, ExactDecimal, Integer, Boolean), True),)


def _how_many(sizes: Sequence[int], most_bytes: float) -> int:
    """The number of leading sizes whose sum reaches `most_bytes`; the number of all if their sum does not."""
    return sum(before < most_bytes for before in accumulate(sizes[:-1], initial=0)) if sizes else 0
