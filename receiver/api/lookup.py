"""Lookup: the bounded reads that all resources share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import RowMapping, Select

from receiver.database.database import Database
from receiver.database.identity import identity_of
from receiver.database.pages import Page, read_page
from receiver.errors import BadRequest, NotFound
from receiver.likeness import choice_of
from receiver.search.cursors import Cursors, ListedIn
from receiver.search.filters import ChangeFilter, DeliveryFilter, RowFilter
from receiver.search.pages import PageBounds
from receiver.search.sources import is_source
from receiver.search.windows import SortKey


class Lookup:
    """Reads pages of the database, and checks names of sources."""

    def __init__(self, database: Database, sources: Sequence[str], *, page_bytes: int, cursors: Cursors) -> None:
        self.database = database
        self.sources = sources
        self.cursors = cursors
        #: The size in bytes at which a page ends.
        self.page_bytes = page_bytes

    def page(self, statement: Select[Any], show: Callable[[RowMapping], Any], limit: int) -> Page:
        """Read the first rows of the statement, formatted by `show`, up to `limit` and to the size of a page."""
        return read_page(self.database, statement, show, limit=limit, most_bytes=self.page_bytes)

    def bounds(self, behind: SortKey | None, limit: int) -> PageBounds:
        """Make the bounds of a page that begins after this key."""
        return PageBounds(behind=behind, limit=limit, most_bytes=self.page_bytes)

    def listed_in(
        self, name: str, wanted: DeliveryFilter | RowFilter | ChangeFilter, *, as_of: datetime | None = None
    ) -> ListedIn:
        """Identify a list by its name, its filters and the database, for cursors.

        `as_of` is the time from which the relative times of the filters count; None if there are none.
        """
        with self.database.read() as connection:
            return ListedIn(name, wanted, identity_of(connection), as_of=as_of)

    def as_of(self, cursor: str | None) -> datetime:
        """The time from which relative times of a list count: on every page, that of its first page.

        Raises `BadRequest` for an invalid cursor.
        """
        return self.cursors.as_of(cursor) or datetime.now(UTC)

    def source(self, name: str | None) -> str | None:
        """Check the name of a source, which must be in the settings or have stored data.

        None stays None. Raises `BadRequest` for any other name.
        """
        if name is None or name in self.sources or is_source(self.database, name):
            return name
        known = choice_of(name, self.sources, named="`source` takes one of")
        raise BadRequest(f"There is no source {name[:64]!r}, and no stored data of one: {known}.", names=("source",))

    def no_row(self, source: str, external_id: str) -> NotFound:
        """The error for an unknown row, or for an unknown source."""
        if source not in self.sources and not is_source(self.database, source):
            known = choice_of(source, self.sources)
            return NotFound(f"There is no source {source[:64]!r}, and no stored data of one: {known}.")
        return NotFound(
            f"No row {external_id[:64]!r} of {source[:64]!r} is known: `/api/v1/search` finds rows and "
            "deliveries by any id or SKU.",
            names=("/api/v1/search",),
        )
