"""The mirror: its tables, and the rows of one table with filters."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from receiver.api.catalog import ROW_FILTERS, Tables
from receiver.api.pages import Matching
from receiver.console.lists import FilterField, Listing, filter_fields, listing
from receiver.console.page import Button, ConsolePage
from receiver.console.visit import Visit
from receiver.schemas import Moment

#: Rows on a page.
ROWS_SHOWN = "50"


class ListedRow(msgspec.Struct, frozen=True):
    """The columns of a row that a list shows. Columns with a default are missing in some tables."""

    source: str
    external_id: str
    active: bool
    changed_at: Moment
    tie: bool
    sku: str | UnsetType | None = UNSET
    name: str | UnsetType | None = UNSET
    price: str | UnsetType | None = UNSET


class RowPage(msgspec.Struct, frozen=True):
    """A page of rows of any table."""

    items: list[ListedRow]
    next: str | None
    matching: Matching
    horizon: Any = None


class RowList(NamedTuple):
    """The values for the template."""

    table: str
    tables: list[str]
    items: list[ListedRow]
    #: The optional columns that at least one row has.
    columns: list[str]
    fields: list[FilterField]
    listing: Listing
    matching: Matching


def show_tables(visit: Visit) -> Tables:
    """The names of the tables."""
    return visit.ask(Tables, "list_tables")


def show_rows(visit: Visit) -> RowList:
    """One page of the rows that match, and their number."""
    table = visit.path["table"]
    page = visit.ask_listed(RowPage, "list_rows", limit=ROWS_SHOWN, count="true")
    first = page.items[0] if page.items else None
    return RowList(
        table=table,
        tables=show_tables(visit).tables,
        items=page.items,
        columns=[name for name in ("sku", "name", "price") if first and getattr(first, name) is not UNSET],
        fields=filter_fields(visit, ROW_FILTERS),
        listing=listing(visit, LIST_OF_ROWS, following=page.next),
        matching=page.matching,
    )


LIST_OF_TABLES = ConsolePage(
    name="tables",
    path="/mirror",
    title="Mirror",
    template="tables.html",
    operation="list_tables",
    command="hookmirror rows",
    show=show_tables,
    menu="Mirror",
)

LIST_OF_ROWS = ConsolePage(
    name="rows",
    path="/mirror/{table}",
    title="Rows",
    template="rows.html",
    operation="list_rows",
    command="hookmirror rows {table}",
    show=show_rows,
    follows_in="cursor",
)

PAGES = (LIST_OF_TABLES, LIST_OF_ROWS)

BUTTONS: tuple[Button, ...] = ()
