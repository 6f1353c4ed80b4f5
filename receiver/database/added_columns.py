"""Columns that were added to the declaration of a table without migrations, and the statements that add them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from sqlalchemy import Column, Connection, Table, inspect, literal
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import CreateColumn
from sqlmodel import SQLModel

#: What the rows that exist get, by the type of a column that takes no NULL and whose declaration has no default.
VALUES: dict[Any, Any] = {
    str: "",
    bytes: b"",
    bool: False,
    int: 0,
    float: 0.0,
    Decimal: Decimal(0),
    datetime: datetime(1970, 1, 1, tzinfo=UTC),
    dict: {},
    list: [],
}


def lacking_columns(connection: Connection, table: Table, model: type[SQLModel] | None) -> Iterator[str]:
    """Describe each declared column that the table in the database lacks, with the statement that adds it.

    `model` is the class that declares the table. Yields nothing for a table that does not exist.
    """
    present = inspect(connection)
    if not present.has_table(table.name, schema=table.schema):
        return
    there = {found["name"] for found in present.get_columns(table.name, schema=table.schema)}
    named = connection.dialect.identifier_preparer.format_table(table)
    for wanted in table.columns:
        if wanted.name not in there:
            statement = f"ALTER TABLE {named} ADD COLUMN {_definition(connection, wanted, model)}"
            yield f"The table {table.name} lacks the column {wanted.name}: run `{statement}`."


def _definition(connection: Connection, wanted: Column[Any], model: type[SQLModel] | None) -> str:
    """The definition with a default for the rows that exist, unless they may have NULL."""
    defined = str(CreateColumn(wanted).compile(dialect=connection.dialect))
    if wanted.nullable or wanted.server_default is not None or wanted.computed or wanted.identity:
        return defined
    default = _literal(connection, wanted, _value(wanted, model.model_fields.get(wanted.key) if model else None))
    return f"{defined.removesuffix(' NOT NULL')} DEFAULT {default} NOT NULL"


def _value(wanted: Column[Any], declared: FieldInfo | None) -> Any:
    if wanted.default is not None and wanted.default.is_scalar:
        return wanted.default.arg  # type: ignore[attr-defined]
    if declared is not None and declared.default not in (None, PydanticUndefined):
        return declared.default
    if declared is not None:
        return VALUES.get(get_origin(declared.annotation) or declared.annotation)
    try:
        return VALUES.get(wanted.type.python_type)
    except NotImplementedError:
        return None


def _literal(connection: Connection, wanted: Column[Any], value: Any) -> str:
    """The value as SQL; for one that has no such form, what a person must put there."""
    if value is not None:
        # As the driver gets it, because a type of one's own may have no literal.
        processed = wanted.type.bind_processor(connection.dialect)
        try:
            stored = literal(value if processed is None else processed(value))
            compiled = str(stored.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True}))
        except (SQLAlchemyError, NotImplementedError, TypeError, ValueError, AttributeError):
            pass
        else:
            # Doubled for the driver, through which a person's statement does not go.
            return compiled.replace("%%", "%") if connection.dialect.identifier_preparer._double_percents else compiled
    return "<the value for present rows>"
