"""Lookup: what the answers of every noun need to read, within bounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    """The database, read in pages, and the names of the sources in the settings."""

    def __init__(self, database: Database, sources: Sequence[str], *, page_bytes: int, cursors: Cursors) -> None:
        self.database = database
        self.sources = sources
        self.cursors = cursors
        #: Bytes after which a page ends.
        self.page_bytes = page_bytes

    def page(self, statement: Select[Any], show: Callable[[RowMapping], Any], limit: int) -> Page:
        """The first rows of the statement, as `show` shows them: no more than `limit`, and than a page has bytes."""
        return read_page(self.database, statement, show, limit=limit, most_bytes=self.page_bytes)

    def bounds(self, behind: SortKey | None, limit: int) -> PageBounds:
        """Of a page that begins behind this key."""
        return PageBounds(behind=behind, limit=limit, most_bytes=self.page_bytes)

    def listed_in(self, name: str, wanted: DeliveryFilter | RowFilter | ChangeFilter) -> ListedIn:
        """The list of this name and these filters in the database as it is now, for cursors."""
        with self.database.read() as connection:
            return ListedIn(name, wanted, identity_of(connection))

    def source(self, name: str | None) -> str | None:
        """The name, if a source of the settings has it, or one that has left them and of which something is stored.

        None stays None. Raises `BadRequest` for any other name.
        """
        if name is None or name in self.sources or is_source(self.database, name):
            return name
        known = choice_of(name, self.sources, named="`source` takes one of")
        raise BadRequest(f"There is no source {name[:64]!r}, nor was there: {known}.", names=("source",))

    def no_row(self, source: str, external_id: str) -> NotFound:
        """The error about a row that nothing was ever heard of, or about its source that never was."""
        if source not in self.sources and not is_source(self.database, source):
            known = choice_of(source, self.sources)
            return NotFound(f"There is no source {source[:64]!r}, nor was there: {known}.")
        return NotFound(
            f"No row {external_id[:64]!r} of {source[:64]!r} was ever heard of: `/api/v1/search` finds rows and "
            "deliveries by any id or SKU.",
            names=("/api/v1/search",),
        )
