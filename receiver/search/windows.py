"""Finds rows in the order of a key: directly by an index, or window by window for conditions without one.

A window is a run of consecutive rows on a path, each of which is examined. After a tenth of a second the search stops,
and the answer carries its horizon, the key from which the next page continues.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Integer, Select, String, Table, select, tuple_
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from receiver.database.columns import UtcDateTime, by_kind
from receiver.database.errors import is_overdue
from receiver.database.statement_timeouts import statement_timeout

#: Seconds for which rows are examined that no index finds.
SECONDS = 0.1

#: Rows of the first window, which is always examined completely, and of the largest.
FIRST_WINDOW, LARGEST_WINDOW = 500, 32_000

#: The next window is twice as large if this one took less than this share of the time.
SMALL_SHARE = 0.1

#: The values of the key's columns in one row.
SortKey = tuple[Any, ...]


class Look(NamedTuple):
    """A condition that must be checked on each row, because no index covers it."""

    columns: tuple[str, ...]
    #: The condition on these columns.
    fits: Callable[..., ColumnElement[bool]]

    def of(self, columns: ReadOnlyColumnCollection[str, Any]) -> ColumnElement[bool]:
        return self.fits(*(columns[name] for name in self.columns))


def equals(value: Any) -> Callable[[ColumnElement[Any]], ColumnElement[bool]]:
    """Make a condition that a column equals this value."""
    return lambda column: column == value


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """Rows of a table that an index returns in the order of a key."""

    table: Table
    #: Names of the key's columns.
    key: tuple[str, ...]
    #: The conditions that the index covers besides the order.
    conditions: tuple[ColumnElement[bool], ...] = ()
    looks: tuple[Look, ...] = ()
    descending: bool = False

    @property
    def columns(self) -> list[ColumnElement[Any]]:
        return [self.table.c[name] for name in self.key]

    def order(self, columns: Sequence[ColumnElement[Any]]) -> list[ColumnElement[Any]]:
        return [column.desc() if self.descending else column for column in columns]

    def behind(self, key: SortKey | None, *columns: str) -> Select[Any]:
        """Select the keys of the path after this key, or all of them, in order."""
        return self.select([self.table.c[name] for name in dict.fromkeys((*self.key, *columns))], behind=key)

    def select(self, columns: Sequence[ColumnElement[Any]], *, behind: SortKey | None) -> Select[Any]:
        """Select these columns of the path after the key, without checking conditions."""
        statement = select(*columns).where(*self.conditions)
        if behind is not None:
            statement = statement.where(self._follows(behind))
        return statement.order_by(*self.order(self.columns))

    def _follows(self, key: SortKey) -> ColumnElement[bool]:
        # A plain comparison for a single column, because PostgreSQL estimates it better.
        ours, theirs = (self.columns[0], key[0]) if len(key) == 1 else (tuple_(*self.columns), tuple_(*key))
        return ours < theirs if self.descending else ours > theirs


@dataclass(frozen=True, slots=True, kw_only=True)
class Few:
    """Rows that an index finds, few enough to be sorted by the key."""

    table: Table
    key: tuple[str, ...]
    #: The conditions that the index covers.
    conditions: tuple[ColumnElement[bool], ...]
    looks: tuple[Look, ...] = ()
    descending: bool = False

    def order(self, columns: Sequence[ColumnElement[Any]]) -> list[ColumnElement[Any]]:
        return [column.desc() if self.descending else column for column in columns]


class Found(NamedTuple):
    """The keys that were found, in order."""

    keys: list[SortKey]
    #: The last key examined; None if all rows were examined, or the limit was reached.
    horizon: SortKey | None
    #: The number of rows that were examined.
    looked_at: int


def find(
    connection: Connection,
    way: Path | Few,
    *,
    behind: SortKey | None,
    limit: int,
    seconds: float = SECONDS,
) -> Found:
    """Find the keys of the first rows after this key, at most `limit`."""
    if isinstance(way, Few):
        return _few(connection, way, behind, limit)
    if not way.looks:
        keys = _keys(connection, way.behind(behind).limit(limit))
        return Found(keys, None, len(keys))
    return _Looking(connection, way, limit, seconds).from_behind(behind)


class _Looking:
    """One search along a path."""

    def __init__(self, connection: Connection, path: Path, limit: int, seconds: float) -> None:
        self._connection = connection
        self._path = path
        self._limit = limit
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        self._keys: list[SortKey] = []
        self._looked_at = 0

    def from_behind(self, key: SortKey | None) -> Found:
        # The first window is always examined, so that each answer advances however slow the disk is.
        key = self._look_at(key, FIRST_WINDOW)
        size = FIRST_WINDOW
        while key is not None and len(self._keys) < self._limit:
            left = self._until - time.monotonic()
            if left <= 0:
                break
            began = time.monotonic()
            try:
                with statement_timeout(self._connection, left):
                    key = self._look_at(key, size)
            except DBAPIError as error:
                if not is_overdue(error):
                    raise
                break
            if time.monotonic() - began < self._seconds * SMALL_SHARE:
                size = min(2 * size, LARGEST_WINDOW)
        full = len(self._keys) == self._limit
        return Found(self._keys, None if full else key, self._looked_at)

    def _look_at(self, behind: SortKey | None, size: int) -> SortKey | None:
        """Examine the next `size` rows, and return the key of the last; None if the path ends before."""
        edges = _keys(self._connection, self._path.behind(behind).offset(size - 1).limit(1))
        looked_at = [name for look in self._path.looks for name in look.columns]
        window = self._path.behind(behind, *looked_at).limit(size).subquery()
        key = [window.c[name] for name in self._path.key]
        fitting = select(*key).where(*(look.of(window.c) for look in self._path.looks))
        left = self._limit - len(self._keys)
        self._keys += _keys(self._connection, fitting.order_by(*self._path.order(key)).limit(left))
        self._looked_at += size
        return edges[0] if edges else None


def _few(connection: Connection, few: Few, behind: SortKey | None, limit: int) -> Found:
    columns = [few.table.c[name] for name in few.key]
    hidden = [_hidden(column) for column in columns]
    looks = [look.fits(*(_hidden(few.table.c[name]) for name in look.columns)) for look in few.looks]
    statement = select(*columns).where(*few.conditions, *looks)
    if behind is not None:
        ours, theirs = tuple_(*hidden), tuple_(*behind)
        statement = statement.where(ours < theirs if few.descending else ours > theirs)
    keys = _keys(connection, statement.order_by(*few.order(hidden)).limit(limit))
    return Found(keys, None, len(keys))


def _hidden(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The column in an expression that no index covers, so that SQLite keeps to the index of the few rows."""
    nothing = by_kind(column.type, ((UtcDateTime, None), (Integer, 0), (String, "")), None)
    return column if nothing is None else column + nothing


def _keys(connection: Connection, statement: Select[Any]) -> list[SortKey]:
    return [tuple(row) for row in connection.execute(statement)]
