"""Listing: the parts of a dialect that a reconcile uses, which walk through a source's list and ask for one row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from receiver.errors import WiringError
from receiver.logs.safe_text import quoted
from receiver.mirror.rows import MirrorRow


@dataclass(frozen=True, slots=True)
class Listed:
    """One row with the source's present values, to be compared with the mirror."""

    table: type[MirrorRow]
    external_id: str
    columns: Mapping[str, Any]
    #: False for a row that the source lists as switched off.
    active: bool = True
    #: The time of the row's last change; None if the source does not give it.
    changed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of a source's list."""

    rows: Sequence[Listed]
    #: The `start` of the next page, a value that JSON can hold; None after the last page.
    next: Any = None
    #: The number of rows of the part's first table in the whole list; None if the source does not give it.
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """One row to ask the source for."""

    table: type[MirrorRow]
    external_id: str
    #: The external id of the row's parent; None if the mirror does not know it.
    parent: str | None = None


#: A function that fetches the page with this start; None for the first. If it raises, the list is incomplete.
ReadPage = Callable[[httpx.Client, Any], ListPage]

#: A function that yields every row. If it raises, the walk is incomplete.
WalkAll = Callable[[httpx.Client], Iterator[Listed]]

#: A function that returns the rows in the source's answer, the wanted row among them; an empty list if it is gone.
LookUp = Callable[[httpx.Client, Wanted], Sequence[Listed]]


@dataclass(frozen=True, slots=True)
class ListPart:
    """A part of a source's list that is complete by itself, read by pages or by one walk."""

    #: The tables that the part covers completely: a row of these tables that the part lacks is gone.
    tables: tuple[type[MirrorRow], ...]
    read: ReadPage | None = None
    walk: WalkAll | None = None
    #: Whether the pages only name the rows, so that the lookup must fetch each row.
    names_only: bool = False


@dataclass(frozen=True, slots=True)
class SourceListing:
    """A source's list: its parts in the order in which they are walked."""

    parts: tuple[ListPart, ...]

    @property
    def tables(self) -> tuple[type[MirrorRow], ...]:
        return tuple(table for part in self.parts for table in part.tables)

    def check(self, lookup: SourceLookup | None, dialect: str) -> None:
        """Raise `WiringError` for a part that only names rows while the dialect has no lookup for them."""
        known = () if lookup is None else lookup.tables
        for part in self.parts:
            table = part.tables[0]
            if part.names_only and table not in known:
                raise WiringError(
                    f"The list of {dialect} only names its rows of {table.__name__}: write a lookup of them with "
                    f"@{dialect}.lookup({table.__name__})."
                )


@dataclass(frozen=True, slots=True)
class SourceLookup:
    """The functions that ask a source for one row, by the tables that they know."""

    by_table: Mapping[type[MirrorRow], LookUp]

    @property
    def tables(self) -> tuple[type[MirrorRow], ...]:
        return tuple(self.by_table)

    def ask(self, api: httpx.Client, wanted: Wanted) -> Sequence[Listed]:
        """Ask for a row of one of the tables."""
        return self.by_table[wanted.table](api, wanted)


def check_tables(tables: tuple[object, ...], decorator: str) -> None:
    """Raise `WiringError` unless these arguments of a decorator are mirror tables, and at least one.

    A decorator without brackets has a function as its argument, and would register none.
    """
    odd = [each for each in tables if not (isinstance(each, type) and issubclass(each, MirrorRow))]
    if odd or not tables:
        has = f"the argument {quoted(odd[0])}" if odd else "no argument"
        raise WiringError(f"{decorator} has {has}: name the tables of its rows, such as {decorator}(Product).")


def listing_with(
    listing: SourceListing | None, part: ListPart, dialect: str, *, override: bool = False
) -> SourceListing:
    """The listing with one more part. If it overrides, a walk replaces all parts, and pages those of the same tables.

    Raises `WiringError` if another part lists one of its tables, or if one of them is a walk, which lists everything.
    """
    parts = () if listing is None else listing.parts
    if override:
        parts = () if part.walk is not None else _beside(parts, part, dialect)
    listed = [table.__name__ for each in parts for table in each.tables if table in part.tables]
    if listed:
        raise WiringError(
            f"Two functions list {', '.join(listed)} of {dialect}: remove one, or say override=True in one of them."
        )
    if any(each.walk is not None for each in (*parts, *(part,) * bool(parts))):
        raise WiringError(
            f"Another function lists rows of {dialect}, and one with @{dialect}.listing lists all of them: let one "
            f"function yield the rows of all tables, or write both with @{dialect}.pages."
        )
    return SourceListing((*parts, part))


def _beside(parts: tuple[ListPart, ...], part: ListPart, dialect: str) -> tuple[ListPart, ...]:
    """The parts that pages with `override` do not replace. Raises `WiringError` if a table would have no list then."""
    replaced = [each for each in parts if each.walk is not None or set(each.tables) & set(part.tables)]
    left = [table.__name__ for each in replaced for table in each.tables if table not in part.tables]
    if left:
        raise WiringError(
            f"The function that lists {', '.join(table.__name__ for table in part.tables)} of {dialect} with "
            f"override=True replaces one that lists {', '.join(left)}, too: list these with it."
        )
    return tuple(each for each in parts if each not in replaced)


def lookup_with(
    lookup: SourceLookup | None,
    tables: tuple[type[MirrorRow], ...],
    ask: LookUp,
    dialect: str,
    *,
    override: bool = False,
) -> SourceLookup:
    """The lookup with one more function. Raises `WiringError` if another one knows one of its tables."""
    known = {} if lookup is None else lookup.by_table
    twice = [table.__name__ for table in tables if table in known]
    if twice and not override:
        raise WiringError(
            f"Two functions look up {', '.join(twice)} of {dialect}: remove one, or say override=True in one of them."
        )
    return SourceLookup({**known, **dict.fromkeys(tables, ask)})
