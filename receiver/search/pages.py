"""Pages of lists, each with the key after which the next begins, and bounded counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, RowMapping, select

from receiver.database.page_sizes import USUAL_PAGE
from receiver.database.pages import LARGEST_PAGE_BYTES, read_page_on
from receiver.search.windows import SECONDS, Few, Found, Path, SortKey, count_on, find

#: Counting stops at this number.
MOST_COUNTED = 10_000


class Horizon(NamedTuple):
    """The place that a search has reached: its key, after this number of examined rows."""

    key: SortKey
    looked_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PageBounds:
    """The bounds of a page: its beginning, its length, and its time."""

    #: The key after which the page begins; None for the first page.
    behind: SortKey | None = None
    limit: int = USUAL_PAGE
    most_bytes: int = LARGEST_PAGE_BYTES
    #: The time limit for examining rows that no index finds.
    seconds: float = SECONDS


class FoundPage(NamedTuple):
    """One page, its items as JSON."""

    #: Each is encoded JSON already (`Raw`).
    items: list[Any]
    #: The key after which the next page begins; None on the last page.
    next: SortKey | None
    #: Set if the time ended before all rows were examined.
    horizon: Horizon | None


class Count(NamedTuple):
    """The number of items, up to a bound."""

    number: int
    #: Whether the number is a lower bound.
    more: bool
    #: Set if the time ended before all rows were counted.
    horizon: Horizon | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """The query of a list's items by their keys, and their format."""

    columns: Sequence[ColumnElement[Any]]
    #: The condition that finds the items with these keys.
    with_keys: Callable[[list[SortKey]], ColumnElement[bool]]
    show: Callable[[RowMapping], Any]
    #: Whether no row has a column of more than a few kilobytes.
    are_short: bool = False


def read_found_page(connection: Connection, ways: Sequence[Path | Few], items: Items, bounds: PageBounds) -> FoundPage:
    """Merge the items of several ways into one page. The ways must be disjoint."""
    way, found = ways[0], None
    if len(ways) == 1 and isinstance(way, Path) and not way.looks:
        statement = way.select(items.columns, behind=bounds.behind)
    else:
        found = find_on_all(connection, ways, behind=bounds.behind, limit=bounds.limit, seconds=bounds.seconds)
        if not found.keys:
            return FoundPage([], found.horizon, _horizon(found))
        order = way.order([way.table.c[name] for name in way.key])
        statement = select(*items.columns).where(items.with_keys(found.keys)).order_by(*order)
    page = read_page_on(
        connection,
        statement,
        items.show,
        limit=bounds.limit,
        most_bytes=bounds.most_bytes,
        are_short=items.are_short,
    )
    if page.last is not None and page.more:
        return FoundPage(page.items, tuple(page.last[name] for name in way.key), None)
    return FoundPage(page.items, found.horizon if found else None, _horizon(found) if found else None)


def count(connection: Connection, ways: Sequence[Path | Few], *, seconds: float = SECONDS) -> Count:
    """Count the items on these ways, up to `MOST_COUNTED` and within `seconds`."""
    if len(ways) == 1:
        number, horizon, looked_at = count_on(connection, ways[0], limit=MOST_COUNTED + 1, seconds=seconds)
        return _count(number, None if horizon is None else Horizon(horizon, looked_at))
    return count_of(find_on_each(connection, ways, limit=MOST_COUNTED + 1, seconds=seconds))


def count_of(found: Found) -> Count:
    """The count from a search whose limit was `MOST_COUNTED` + 1."""
    return _count(len(found.keys), _horizon(found))


def _count(number: int, horizon: Horizon | None) -> Count:
    return Count(min(number, MOST_COUNTED), number > MOST_COUNTED, horizon)


def find_on_all(
    connection: Connection, ways: Sequence[Path | Few], *, behind: SortKey | None, limit: int, seconds: float
) -> Found:
    """The keys of the first items on all ways, up to the horizon that every way has reached."""
    found = _merged(connection, ways, behind, limit, seconds)
    keys, horizon = found.keys, found.horizon
    if horizon is not None and len(ways) > 1:
        keys = [key for key in keys if (key >= horizon if ways[0].descending else key <= horizon)]
    return Found(keys[:limit], None if len(keys) >= limit else horizon, found.looked_at)


def find_on_each(connection: Connection, ways: Sequence[Path | Few], *, limit: int, seconds: float) -> Found:
    """As `find_on_all`, with the items of each way beyond the horizon of another, too, because no page continues."""
    found = _merged(connection, ways, None, limit, seconds)
    return found._replace(keys=found.keys[:limit])


def _merged(
    connection: Connection, ways: Sequence[Path | Few], behind: SortKey | None, limit: int, seconds: float
) -> Found:
    """The keys that each way has found, in order, and the first of their horizons."""
    results = [find(connection, way, behind=behind, limit=limit, seconds=seconds / len(ways)) for way in ways]
    descending = ways[0].descending
    horizons = [each.horizon for each in results if each.horizon is not None]
    horizon = (max if descending else min)(horizons, default=None)
    keys = (
        sorted((key for each in results for key in each.keys), reverse=descending) if len(ways) > 1 else results[0].keys
    )
    return Found(keys, horizon, sum(each.looked_at for each in results))


def _horizon(found: Found) -> Horizon | None:
    return None if found.horizon is None else Horizon(found.horizon, found.looked_at)
