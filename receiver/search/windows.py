"""Looking at rows in the order of a key: straight off an index, or, for what no index knows, window by window.

A window is so many rows that follow each other on a path, all of which are looked at. Windows are looked at for a
tenth of a second; the answer then says how far that was: its horizon, from which the next page goes on.
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

#: Seconds for which rows are looked at that no index finds.
SECONDS = 0.1

#: Rows of the first window, which is looked at to its end whatever that takes, and of the largest.
FIRST_WINDOW, LARGEST_WINDOW = 500, 32_000

#: A window is followed by one of twice its size while it takes less than this share of the time.
SMALL_SHARE = 0.1

#: The values of a key's columns.
SortKey = tuple[Any, ...]


class Look(NamedTuple):
    """What must be looked at in each row, because no index answers it."""

    columns: tuple[str, ...]
    #: The condition on these columns.
    fits: Callable[..., ColumnElement[bool]]

    def of(self, columns: ReadOnlyColumnCollection[str, Any]) -> ColumnElement[bool]:
        return self.fits(*(columns[name] for name in self.columns))


def equals(value: Any) -> Callable[[ColumnElement[Any]], ColumnElement[bool]]:
    """The condition of a look that wants this value."""
    return lambda column: column == value


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """Rows of a table that an index gives in the order of a key."""

    table: Table
    #: Names of the key's columns.
    key: tuple[str, ...]
    #: What the index answers beside the order.
    conditions: tuple[ColumnElement[bool], ...] = ()
    looks: tuple[Look, ...] = ()
    descending: bool = False

    @property
    def columns(self) -> list[ColumnElement[Any]]:
        return [self.table.c[name] for name in self.key]

    def order(self, columns: Sequence[ColumnElement[Any]]) -> list[ColumnElement[Any]]:
        return [column.desc() if self.descending else column for column in columns]

    def behind(self, key: SortKey | None, *columns: str) -> Select[Any]:
        """Selects the path from behind the key on, or from its beginning, in its order."""
        return self.select([self.table.c[name] for name in dict.fromkeys((*self.key, *columns))], behind=key)

    def select(self, columns: Sequence[ColumnElement[Any]], *, behind: SortKey | None) -> Select[Any]:
        """Selects these columns of the path, without any look, from behind the key on."""
        statement = select(*columns).where(*self.conditions)
        if behind is not None:
            statement = statement.where(self._follows(behind))
        return statement.order_by(*self.order(self.columns))

    def _follows(self, key: SortKey) -> ColumnElement[bool]:
        # Of a single column plainly, because PostgreSQL estimates that better.
        ours, theirs = (self.columns[0], key[0]) if len(key) == 1 else (tuple_(*self.columns), tuple_(*key))
        return ours < theirs if self.descending else ours > theirs


@dataclass(frozen=True, slots=True, kw_only=True)
class Few:
    """Rows of a table that an index finds and that are so few that they can be put into the order of a key."""

    table: Table
    key: tuple[str, ...]
    #: What the index answers.
    conditions: tuple[ColumnElement[bool], ...]
    looks: tuple[Look, ...] = ()
    descending: bool = False

    def order(self, columns: Sequence[ColumnElement[Any]]) -> list[ColumnElement[Any]]:
        return [column.desc() if self.descending else column for column in columns]


class Found(NamedTuple):
    """What was found, in the order of the key."""

    keys: list[SortKey]
    #: Behind which key nobody has looked yet; None if all was looked at, or as much was found as was asked for.
    horizon: SortKey | None
    #: How many rows were looked at, found or not.
    looked_at: int


def find(
    connection: Connection,
    way: Path | Few,
    *,
    behind: SortKey | None,
    limit: int,
    seconds: float = SECONDS,
) -> Found:
    """The keys of the first rows behind the key, at most `limit`."""
    if isinstance(way, Few):
        return _few(connection, way, behind, limit)
    if not way.looks:
        keys = _keys(connection, way.behind(behind).limit(limit))
        return Found(keys, None, len(keys))
    return _Looking(connection, way, limit, seconds).from_behind(behind)


class _Looking:
    """One look along a path."""

    def __init__(self, connection: Connection, path: Path, limit: int, seconds: float) -> None:
        self._connection = connection
        self._path = path
        self._limit = limit
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        self._keys: list[SortKey] = []
        self._looked_at = 0

    def from_behind(self, key: SortKey | None) -> Found:
        # However slow the disk is, each answer gets further than the one before.
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
        """Look at so many rows. Returns the key of the last one; None if the path ends before."""
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
    """The same value, for whose sake SQLite takes no other index than that of the few, which it cannot know as such."""
    nothing = by_kind(column.type, ((UtcDateTime, None), (Integer, 0), (String, "")), None)
    return column if nothing is None else column + nothing


def _keys(connection: Connection, statement: Select[Any]) -> list[SortKey]:
    return [tuple(row) for row in connection.execute(statement)]
