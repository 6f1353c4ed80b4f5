"""Pages of rows, bounded in number and in bytes; each row is encoded as JSON as soon as it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from itertools import accumulate
from operator import add
from typing import Any, NamedTuple

from msgspec import Raw
from sqlalchemy import ColumnElement, Connection, RowMapping, Select, Text, cast, func

from receiver.codec import encode
from receiver.database.database import Database

#: The default and the largest number of items on a page.
USUAL_PAGE, LARGEST_PAGE = 100, 1_000

#: The size in bytes at which a page ends before its limit of rows.
LARGEST_PAGE_BYTES = 4 << 20


class Page(NamedTuple):
    """One page: the rows as JSON, the last row as it was read, and whether more may follow."""

    #: Each is encoded JSON already (`Raw`).
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

    At least one, if there is one, however large.
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
) -> Page:
    """Read a page as `read_page` does, within the caller's transaction."""
    items: list[Raw] = []
    size, last = 0, None
    for row in _read_within(connection, statement, limit=limit, most_bytes=most_bytes):
        items.append(Raw(encode(show(row))))
        last, size = row, size + len(bytes(items[-1]))
        if size >= most_bytes:
            break
    return Page(items, last, len(items) == limit or size >= most_bytes)


def read_within(database: Database, statement: Select[Any], *, limit: int, most_bytes: int) -> Iterator[RowMapping]:
    """The first rows of the statement, at most `limit`; the caller may stop early.

    SQLite reads one after the other. PostgreSQL would send them all at once, so it is asked first how large they are:
    it knows that without reading what lies outside of the row, as anything large does.
    """
    with database.read() as connection:
        yield from _read_within(connection, statement, limit=limit, most_bytes=most_bytes)


def _read_within(
    connection: Connection, statement: Select[Any], *, limit: int, most_bytes: int
) -> Iterator[RowMapping]:
    if connection.dialect.name == "postgresql":
        sizes = connection.execute(statement.with_only_columns(_size(statement)).limit(limit)).scalars().all()
        limit = _how_many(sizes, most_bytes)
    with connection.execute(statement.limit(limit)) as found:
        yield from found.mappings()


def _size(statement: Select[Any]) -> ColumnElement[int]:
    columns = statement.selected_columns
    return reduce(add, (func.coalesce(func.octet_length(cast(column, Text)), 0) for column in columns))


def _how_many(sizes: Sequence[int], most_bytes: int) -> int:
    """How many of the first sizes it takes to reach `most_bytes`; all if they do not."""
    return sum(before < most_bytes for before in accumulate(sizes[:-1], initial=0)) if sizes else 0
