"""The mirror's tables over HTTP: their names, their rows, one row with its history."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import RowMapping

from receiver.api.lookup import Lookup
from receiver.api.operations import Operation, Parameter, Question
from receiver.api.pages import HORIZON, MATCHING, NEXT, LookedAt, Matching, count_beside
from receiver.api.parameters import COUNT, CURSOR, LIMIT, SOURCE, flag, plain_text, table_in_path
from receiver.api.row_shapes import row_shape, shape_of, show_row
from receiver.api.tokens import Scope
from receiver.database.page_sizes import LARGEST_PAGE
from receiver.database.snapshots import one_snapshot
from receiver.errors import BadRequest, NotFound, Unavailable
from receiver.mirror import changes
from receiver.mirror.rows import MirrorRow, sql_table
from receiver.schemas import Shape
from receiver.search import rows
from receiver.search.changes import Change, show_change
from receiver.search.filters import RowFilter
from receiver.search.pages import Count, Horizon

# ── schemas ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Tables(Shape, frozen=True):
    tables: list[str]


class RowHorizon(Shape, frozen=True):
    """The row that the search of a list has reached."""

    source: str
    external_id: str
    looked_at: LookedAt


@dataclass(frozen=True, slots=True)
class TableShapes:
    """The schemas of one mirror table: of a row, of a page of rows, and of a row with its history."""

    row: type[Any]
    page: type[Any]
    history: type[Any]

    def show(self, row: RowMapping) -> Any:
        """Format a mirror row for the API."""
        return show_row(self.row, row)


@cache
def shapes_of(table: type[MirrorRow]) -> TableShapes:
    """Make the schemas from the columns of this table."""
    row = row_shape(table)
    title = row.__name__
    following = Annotated[str | None, Meta(description=NEXT)]
    horizon = Annotated[RowHorizon | UnsetType, Meta(description=HORIZON)]
    matching = Annotated[Matching | UnsetType, Meta(description=MATCHING)]
    page = [("items", list[row]), ("next", following), ("horizon", horizon, UNSET), ("matching", matching, UNSET)]  # type: ignore[valid-type]
    history = Annotated[list[Change], Meta(description=f"Newest first, at most {LARGEST_PAGE} and one page.")]
    return TableShapes(
        row,
        shape_of(table, f"{title}Page", page),
        shape_of(table, f"{title}WithHistory", [("row", row), ("history", history)]),
    )


# ── parameters ────────────────────────────────────────────────────────────────────────────────────────────────────

ACTIVE_PARAMETER: Parameter[bool | None] = Parameter(
    "active", {"type": "boolean"}, "Only rows that are active, or only those that are not.", flag("active"), None
)
TIE: Parameter[bool | None] = Parameter(
    "tie",
    {"type": "boolean"},
    "Only rows for which the order of arrival decided between news of equal times, or only the others.",
    flag("tie"),
    None,
)
SKU = plain_text("sku", "The exact SKU; only of tables that have one.")
#: The filters of a list of rows.
ROW_FILTERS = (SOURCE, ACTIVE_PARAMETER, TIE, SKU)
ROW_SOURCE = Parameter("source", {"type": "string"}, "The name of a source.", str, "")
EXTERNAL_ID = Parameter("external_id", {"type": "string"}, "The id at the source. It may hold slashes.", str, "")


class Catalog:
    """The operations on the mirror's tables. The document lists each table's addresses with its own schemas."""

    def __init__(self, lookup: Lookup, tables: Mapping[str, type[MirrorRow]]) -> None:
        self._lookup = lookup
        self._tables = tables
        self._shapes = {name: shapes_of(table) for name, table in tables.items()}
        self._table = table_in_path(tables)

    def operations(self) -> list[Operation]:
        return [
            Operation(
                name="list_tables",
                path="/api/v1/catalog",
                summary="The names of the mirror's tables",
                answer=self.list_tables,
                answers={200: Tables},
                scope=Scope.READ,
                refusals=(BadRequest,),
            ),
            Operation(
                name="list_rows",
                path="/api/v1/catalog/{table}",
                summary="Rows of {table}, in the order of source and external id",
                answer=self.list_rows,
                by_table={name: {200: shapes.page} for name, shapes in self._shapes.items()},
                scope=Scope.READ,
                parameters=(self._table, *ROW_FILTERS, CURSOR, LIMIT, COUNT),
                refusals=(BadRequest, Unavailable),
            ),
            Operation(
                name="show_row",
                path="/api/v1/catalog/{table}/{source}/{external_id:path}",
                summary="One row of {table}, with its history",
                answer=self.show_row,
                by_table={name: {200: shapes.history} for name, shapes in self._shapes.items()},
                scope=Scope.READ,
                parameters=(self._table, ROW_SOURCE, EXTERNAL_ID),
                tagged=True,
                refusals=(BadRequest, NotFound, Unavailable),
            ),
        ]

    def list_tables(self, _: Question) -> Tables:
        return Tables(list(self._tables))

    def list_rows(self, asked: Question) -> Any:
        with one_snapshot(self._lookup.database):
            return self._list(asked)

    def _list(self, asked: Question) -> Any:
        name = asked[self._table]
        table, shapes, database = self._tables[name], self._shapes[name], self._lookup.database
        if asked[SKU] is not None and "sku" not in sql_table(table).c:
            raise BadRequest(f"The rows of {name} have no SKU: leave `sku` out.", names=("sku",))
        wanted = RowFilter(
            source=self._lookup.source(asked[SOURCE]),
            active=asked[ACTIVE_PARAMETER],
            tie=asked[TIE],
            sku=asked[SKU],
        )
        listed = self._lookup.listed_in(name, wanted)
        bounds = self._lookup.bounds(self._lookup.cursors.read(listed, asked[CURSOR]), asked[LIMIT])
        began = time.monotonic()
        page = rows.list_rows(database, table, wanted, shapes.show, bounds)

        def count(seconds: float) -> Count:
            return rows.count_rows(database, table, wanted, seconds=seconds)

        horizon = UNSET if page.horizon is None else _show_horizon(page.horizon)
        is_first = asked[CURSOR] is None
        matching = count_beside(page, count, began=began, is_first=is_first) if asked[COUNT] else UNSET
        return shapes.page(page.items, self._lookup.cursors.write(listed, page.next), horizon, matching)

    def show_row(self, asked: Question) -> Any:
        name, source, external_id = asked[self._table], asked[ROW_SOURCE], asked[EXTERNAL_ID]
        found = rows.row(self._lookup.database, self._tables[name], source, external_id)
        if found is None:
            raise self._lookup.no_row(source, external_id)
        history = self._lookup.page(changes.about(name, source, external_id), show_change, LARGEST_PAGE)
        shapes = self._shapes[name]
        return shapes.history(shapes.show(found), history.items)


def _show_horizon(horizon: Horizon) -> RowHorizon:
    source, external_id = horizon.key
    return RowHorizon(source, external_id, horizon.looked_at)
