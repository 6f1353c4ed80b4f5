"""The parts of a dialect for reconcile: how to walk a source's own list, and how to ask for one thing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from receiver.errors import WiringError
from receiver.mirror.rows import MirrorRow


@dataclass(frozen=True, slots=True)
class Listed:
    """One row as its source says it, to be compared with the mirror."""

    table: type[MirrorRow]
    external_id: str
    columns: Mapping[str, Any]
    #: False for a row that the source lists as switched off.
    active: bool = True
    #: The time of the row's last change, if the source says it.
    changed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of a source's list."""

    rows: Sequence[Listed]
    #: Where the next page begins: a value that JSON can hold; None after the last page.
    next: Any = None
    #: How many rows of the part's first table the whole list has, as this page tells; None if the source does not say.
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """One thing to ask the source for."""

    table: type[MirrorRow]
    external_id: str
    #: The external id of its parent; None if the mirror does not know it.
    parent: str | None = None


#: Fetches the page that begins there; None for the first. Raising means that the list was not read to its end.
ReadPage = Callable[[httpx.Client, Any], ListPage]

#: Yields every row; raising in the middle means that the walk was not complete.
WalkAll = Callable[[httpx.Client], Iterator[Listed]]

#: The rows that the source's answer about one thing holds, the wanted one among them; none if it is gone.
LookUp = Callable[[httpx.Client, Wanted], Sequence[Listed]]


@dataclass(frozen=True, slots=True)
class ListPart:
    """A part of a source's list that is complete by itself. It is read by pages, or walked in one go."""

    #: The tables that it covers completely: their rows that it does not have are gone.
    tables: tuple[type[MirrorRow], ...]
    read: ReadPage | None = None
    walk: WalkAll | None = None
    #: Whether the pages only name the rows, so that each is asked for by the lookup.
    names_only: bool = False


@dataclass(frozen=True, slots=True)
class SourceListing:
    """A source's own list: its parts in the order in which they are walked."""

    parts: tuple[ListPart, ...]

    @property
    def tables(self) -> tuple[type[MirrorRow], ...]:
        return tuple(table for part in self.parts for table in part.tables)

    def with_part(self, part: ListPart, dialect: str) -> SourceListing:
        """The listing with one more part. Raises `WiringError` if something of it is listed already."""
        if any(each.walk is not None or set(each.tables) & set(part.tables) for each in self.parts):
            tables = ", ".join(table.__name__ for table in part.tables)
            raise WiringError(f"Two functions list {tables} of {dialect}: remove one.")
        return SourceListing((*self.parts, part))

    def check(self, lookup: SourceLookup | None, dialect: str) -> None:
        """Raises `WiringError` for a part that only names rows which nothing can ask for."""
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
    """How one thing is asked from its source."""

    tables: tuple[type[MirrorRow], ...]
    ask: LookUp
