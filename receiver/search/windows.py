"""Finds rows in the order of a key: directly by an index, or window by window for conditions without one.

A window is a run of consecutive rows on a path, each of which is examined. After a tenth of a second the search stops,
and the answer carries its horizon, the key from which the next page continues. Beside acks it stops earlier.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Integer,
    Select,
    String,
    Table,
    bindparam,
    func,
    literal,
    select,
    tuple_,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from receiver.database.columns import UtcDateTime, by_kind
from receiver.database.errors import is_overdue
from receiver.database.statement_timeouts import statement_timeout

#: Seconds for which rows are examined that no index finds.
SECONDS = 0.1

#: The share of its seconds that a search examines rows while webhooks take most of the time: the database computes
#: during most of them, on cores that the acks need.
SHARE_BESIDE_ACKS = 0.3

_share: ContextVar[float] = ContextVar("share of the seconds", default=1.0)

#: Rows of the first window, which is always examined completely, and of the largest.
FIRST_WINDOW, LARGEST_WINDOW = 500, 32_000

#: The next window is twice as large if this one took less than this share of the time that is left.
SMALL_SHARE = 0.25

#: The values of the key's columns in one row.
SortKey = tuple[Any, ...]


@contextmanager
def beside_acks() -> Iterator[None]:
    """Let the searches of the block stop after `SHARE_BESIDE_ACKS` of their seconds."""
    before = _share.set(SHARE_BESIDE_ACKS)
    try:
        yield
    finally:
        _share.reset(before)


def seconds_left(began: float, seconds: float = SECONDS) -> float:
    """The seconds left for further searches, of those of a search that began at this monotonic time.

    Beside acks they pass faster, so that all searches of a read together take the shorter time.
    """
    return max(seconds - (time.monotonic() - began) / _share.get(), 0.0)


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


class NumberFound(NamedTuple):
    """The number of rows that fit, up to the limit."""

    number: int
    #: As in `Found`.
    horizon: SortKey | None
    looked_at: int


def count_on(connection: Connection, way: Path | Few, *, limit: int, seconds: float = SECONDS) -> NumberFound:
    """Count the rows on a way, at most `limit`. The database counts where an index finds them, so no key is read."""
    if isinstance(way, Path) and way.looks:
        looking = _Looking(connection, way, limit, seconds, counts=True)
        horizon = looking.from_behind(None).horizon
        return NumberFound(looking.number, horizon, looking.looked_at)
    if isinstance(way, Few):
        some = _of_few(way, [literal(1)])
    else:
        # The order decides nothing, but it makes PostgreSQL walk along the index.
        some = select(literal(1)).where(*way.conditions).order_by(*way.order(way.columns))
    counted = select(func.count()).select_from(some.select_from(way.table).limit(limit).subquery())
    number = int(connection.execute(counted).scalar_one())
    return NumberFound(number, None, number)


class _Looking:
    """One search along a path, for keys or for their number."""

    def __init__(self, connection: Connection, path: Path, limit: int, seconds: float, *, counts: bool = False) -> None:
        """With `counts`, the database counts the rows that fit, and no key is read."""
        self._connection = connection
        self._path = path
        self._limit = limit
        self._counts = counts
        self._until = time.monotonic() + seconds * _share.get()
        self._keys: list[SortKey] = []
        #: The number of rows that fit, and of those that were examined.
        self.number, self.looked_at = 0, 0
        #: The last key examined; None at the end of the path, and once the limit is reached.
        self._reached: SortKey | None = None
        #: The statements for the first window, and those for all others.
        self._windows: dict[bool, _Window] = {}

    def from_behind(self, key: SortKey | None) -> Found:
        # The first window is always examined, so that each answer advances however slow the disk is.
        self._reached = self._look_at(key, FIRST_WINDOW)
        if self._goes_on():
            try:
                with statement_timeout(self._connection, self._until - time.monotonic()) as limit:
                    self._look_further(limit)
            except DBAPIError as error:
                if not is_overdue(error):
                    raise
        return Found(self._keys, None if self._left == 0 else self._reached, self.looked_at)

    @property
    def _left(self) -> int:
        """The number of rows that are still sought."""
        return self._limit - self.number

    def _look_further(self, limit: Callable[[float], None]) -> None:
        """Examine window after window. `limit` sets the time limit of the next statements."""
        size, began = FIRST_WINDOW, time.monotonic()
        limited = self._until - began
        while self._goes_on():
            self._reached = self._look_at(self._reached, size)
            now = time.monotonic()
            if now - began < (self._until - now) * SMALL_SHARE:
                size = min(2 * size, LARGEST_WINDOW)
            began = now
            # Each change of the limit costs as much as a small window.
            if self._until - now < limited / 2 and self._goes_on():
                limited = self._until - now
                limit(limited)

    def _goes_on(self) -> bool:
        return self._reached is not None and self._left > 0 and time.monotonic() < self._until

    def _look_at(self, behind: SortKey | None, size: int) -> SortKey | None:
        """Examine the next `size` rows, and return the key of the last; None at the end of the path or at the limit."""
        is_first = behind is None
        if is_first not in self._windows:
            self._windows[is_first] = _Window(self._path, is_first=is_first)
        window, values = self._windows[is_first], {} if behind is None else _behind(behind)
        self._take(window, values | {"size": size, "left": self._left})
        self.looked_at += size
        edges = self._keys_of(window.edge, values | {"skipped": size - 1}) if self._left else []
        return edges[0] if edges else None

    def _take(self, window: _Window, values: Mapping[str, Any]) -> None:
        """Add the rows of the window that fit."""
        if self._counts:
            self.number += int(self._connection.execute(window.count, values).scalar_one())
            return
        keys = self._keys_of(window.fitting, values)
        self._keys += keys
        self.number += len(keys)

    def _keys_of(self, statement: Select[Any], values: Mapping[str, Any]) -> list[SortKey]:
        return [tuple(row) for row in self._connection.execute(statement, values).all()]


class _Window:
    """The statements that examine the next rows of a path, built once, because building costs more than running."""

    def __init__(self, path: Path, *, is_first: bool) -> None:
        behind = None
        if not is_first:
            behind = tuple(bindparam(f"behind_{n}", type_=column.type) for n, column in enumerate(path.columns))
        #: Selects the key of the last row of the window.
        self.edge = path.behind(behind).offset(_number("skipped")).limit(1)
        looked_at = [name for look in path.looks for name in look.columns]
        window = path.behind(behind, *looked_at).limit(_number("size")).subquery()
        key = [window.c[name] for name in path.key]
        fitting = select(*key).where(*(look.of(window.c) for look in path.looks))
        #: Selects the keys of the rows of the window that fit.
        self.fitting = fitting.order_by(*path.order(key)).limit(_number("left"))
        #: Selects their number.
        self.count = select(func.count()).select_from(fitting.limit(_number("left")).subquery())


def _behind(key: SortKey) -> dict[str, Any]:
    """The values of the parameters of a `_Window` that is not the first one."""
    return {f"behind_{n}": value for n, value in enumerate(key)}


def _number(name: str) -> BindParameter[int]:
    return bindparam(name, type_=Integer())


def _few(connection: Connection, few: Few, behind: SortKey | None, limit: int) -> Found:
    columns = [few.table.c[name] for name in few.key]
    hidden = [_hidden(column) for column in columns]
    statement = _of_few(few, columns)
    if behind is not None:
        ours, theirs = tuple_(*hidden), tuple_(*behind)
        statement = statement.where(ours < theirs if few.descending else ours > theirs)
    keys = _keys(connection, statement.order_by(*few.order(hidden)).limit(limit))
    return Found(keys, None, len(keys))


def _of_few(few: Few, columns: Sequence[ColumnElement[Any]]) -> Select[Any]:
    """Select these columns of the rows that fit."""
    looks = [look.fits(*(_hidden(few.table.c[name]) for name in look.columns)) for look in few.looks]
    return select(*columns).where(*few.conditions, *looks)


def _hidden(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The column in an expression that no index covers, so that SQLite keeps to the index of the few rows."""
    nothing = by_kind(column.type, ((UtcDateTime, None), (Integer, 0), (String, "")), None)
    return column if nothing is None else column + nothing


def _keys(connection: Connection, statement: Select[Any]) -> list[SortKey]:
    return [tuple(row) for row in connection.execute(statement).all()]
