"""The mirror's tables over HTTP: their names, their rows, one row with its history."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Annotated, Any

from msgspec import Meta, defstruct
from sqlalchemy import Boolean, Integer, RowMapping, String

from receiver.api import queries
from receiver.api.changes import Change, show_change
from receiver.api.lookup import Lookup
from receiver.api.operations import Operation, Parameter, Question
from receiver.api.parameters import KEY_CURSOR, LIMIT, SOURCE, flag, write_key_cursor
from receiver.api.queries import LARGEST_PAGE
from receiver.api.tokens import Scope
from receiver.database.columns import Document, ExactDecimal, UtcDateTime, by_kind
from receiver.errors import BadRequest, NotFound, Unavailable
from receiver.mirror import changes
from receiver.mirror.rows import MirrorRow, sql_table
from receiver.schemas import Shape

# ── what is answered ──────────────────────────────────────────────────────────────────────────────────────────

#: What the values of a column are in JSON. Else they may be anything.
JSON_TYPES: tuple[tuple[Any, Any], ...] = (
    (ExactDecimal, Annotated[str, Meta(extra_json_schema={"format": "decimal"})]),
    (UtcDateTime, Annotated[datetime, Meta(tz=True)]),
    (Document, Any),
    (Boolean, bool),
    (Integer, int),
    (String, str),
)


class Tables(Shape, frozen=True):
    tables: list[str]


@dataclass(frozen=True, slots=True)
class TableShapes:
    """The schemas of one mirror table: of a row, of a page of rows, and of a row with what became of it."""

    row: type[Any]
    page: type[Any]
    history: type[Any]

    def show(self, row: RowMapping) -> Any:
        """A mirror row as the API shows it: decimals as text with all their digits."""
        return self.row(*(format(value, "f") if isinstance(value, Decimal) else value for value in row.values()))


@cache
def shapes_of(table: type[MirrorRow]) -> TableShapes:
    """The schemas that follow from the columns of this table."""
    columns = queries.shown_columns(table)
    members = []
    for number, column in enumerate(columns):
        kind = by_kind(column.type, JSON_TYPES, Any)
        # A column may have a name that Python does not allow.
        members.append((f"column_{number}", kind | None if column.nullable and kind is not Any else kind))
    names = {f"column_{number}": str(column.name) for number, column in enumerate(columns)}
    name = sql_table(table).name
    # By the table and not by its class: two packages may have a class of one name.
    title = f"{name.title().replace('_', '')}Row"

    def shape(title: str, members: Any, **options: Any) -> type[Any]:
        # In a module of its own, so that no other schema takes its name in the document.
        return defstruct(title, members, bases=(Shape,), module=f"{__name__}.{name}", frozen=True, **options)

    row = shape(title, members, rename=names, namespace={"__doc__": f"A row of {name}."})
    following = Annotated[str | None, Meta(description="The `cursor` of the next page; null on the last one.")]
    history = Annotated[list[Change], Meta(description=f"The newest change first, at most {LARGEST_PAGE} and a page.")]
    return TableShapes(
        row,
        shape(f"{title}Page", [("items", list[row]), ("next", following)]),  # type: ignore[valid-type]
        shape(f"{title}WithHistory", [("row", row), ("history", history)]),
    )


# ── what is asked ─────────────────────────────────────────────────────────────────────────────────────────────

ACTIVE_PARAMETER: Parameter[bool | None] = Parameter(
    "active", {"type": "boolean"}, "Only rows that are active, or only those that are not.", flag("active"), None
)
ROW_SOURCE = Parameter("source", {"type": "string"}, "The name of a source.", str, "")
EXTERNAL_ID = Parameter("external_id", {"type": "string"}, "The id at the source. It may hold slashes.", str, "")


class Catalog:
    """The operations on the mirror's tables. Each has addresses of its own in the document, as it has columns."""

    def __init__(self, lookup: Lookup, tables: Iterable[type[MirrorRow]]) -> None:
        self._lookup = lookup
        self._tables: dict[str, type[MirrorRow]] = {str(sql_table(table).name): table for table in tables}
        self._shapes = {name: shapes_of(table) for name, table in self._tables.items()}
        self._table = Parameter("table", {"type": "string"}, "The name of a table.", self._known, "")

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
                parameters=(self._table, SOURCE, ACTIVE_PARAMETER, KEY_CURSOR, LIMIT),
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
                refusals=(BadRequest, NotFound, Unavailable),
            ),
        ]

    async def list_tables(self, _: Question) -> Tables:
        return Tables(list(self._tables))

    def list_rows(self, asked: Question) -> Any:
        name = asked[self._table]
        shapes = self._shapes[name]
        wanted = queries.select_rows(
            self._tables[name],
            source=self._lookup.source(asked[SOURCE]),
            active=asked[ACTIVE_PARAMETER],
            behind=asked[KEY_CURSOR],
        )
        page = self._lookup.page(wanted, shapes.show, asked[LIMIT])
        last = page.last if page.more else None
        return shapes.page(page.items, write_key_cursor(last["source"], last["external_id"]) if last else None)

    def show_row(self, asked: Question) -> Any:
        name, source, external_id = asked[self._table], asked[ROW_SOURCE], asked[EXTERNAL_ID]
        found = queries.row(self._lookup.database, self._tables[name], source, external_id)
        if found is None:
            raise NotFound(f"No row {external_id[:64]!r} of {source[:64]!r} was ever heard of.")
        history = self._lookup.page(changes.about(name, source, external_id), show_change, LARGEST_PAGE)
        shapes = self._shapes[name]
        return shapes.history(shapes.show(found), history.items)

    def _known(self, name: str) -> str:
        if name not in self._tables:
            raise NotFound(f"There is no table {name[:64]!r}: choose one of {', '.join(sorted(self._tables))}.")
        return name
