"""Schemas of the rows of mirror tables, which follow from the tables' columns."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Annotated, Any

from msgspec import Meta, defstruct
from sqlalchemy import Boolean, Integer, RowMapping, String

from receiver.codec import plain
from receiver.database.columns import Document, ExactDecimal, UtcDateTime, by_kind
from receiver.mirror.rows import MirrorRow, table_name
from receiver.schemas import Shape
from receiver.search.rows import shown_columns

#: JSON types of columns by their SQL type; other columns may have any value.
JSON_TYPES: tuple[tuple[Any, Any], ...] = (
    (ExactDecimal, Annotated[str, Meta(extra_json_schema={"format": "decimal"})]),
    (UtcDateTime, Annotated[datetime, Meta(tz=True)]),
    (Document, Any),
    (Boolean, bool),
    (Integer, int),
    (String, str),
)


@cache
def row_shape(table: type[MirrorRow]) -> type[Any]:
    """The schema of a row of this table."""
    columns = shown_columns(table)
    members = []
    for number, column in enumerate(columns):
        kind = by_kind(column.type, JSON_TYPES, Any)
        # A column may have a name that Python does not allow.
        members.append((f"column_{number}", kind | None if column.nullable and kind is not Any else kind))
    names = {f"column_{number}": str(column.name) for number, column in enumerate(columns)}
    name = table_name(table)
    # Named by the table, because two packages may have classes of the same name.
    title = f"{name.title().replace('_', '')}Row"
    return shape_of(table, title, members, rename=names, namespace={"__doc__": f"A row of {name}."})


def shape_of(table: type[MirrorRow], title: str, members: Any, **options: Any) -> type[Any]:
    """A schema that belongs to this table."""
    # It gets a module name, so that no other schema has the same name in the document.
    module = f"{__name__}.{table_name(table)}"
    return defstruct(title, members, bases=(Shape,), module=module, frozen=True, **options)


def show_row(shape: type[Any], row: RowMapping) -> Any:
    """Format a mirror row for the API, decimals as text with all their digits."""
    return shape(*(plain(value) if isinstance(value, Decimal) else value for value in row.values()))
