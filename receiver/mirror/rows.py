"""Rows of the mirror: the base class of its tables, what their columns take, and the form of news about a row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cache
from typing import Any, ClassVar, NamedTuple, TypeVar

from sqlalchemy import MetaData, Table
from sqlmodel import Field, SQLModel

from receiver.database.columns import Document, ExactDecimal, UtcDateTime
from receiver.database.normalizers import (
    INDEXED_TEXT_NORMALIZER,
    PLAIN_NORMALIZERS,
    Normalizer,
    normalizer,
)
from receiver.envelope import LONGEST_NAME
from receiver.errors import Unreadable, WiringError
from receiver.mirror.versions import Version


class MirrorRow(SQLModel):
    """The base class of every mirror table. A table adds its own columns, all of them optional.

    A child table names its parent's table in `parent_table`, and has a text column `parent` with the parent's external
    id. A deactivation of the parent is then news about its children. A parent's table has no parent table itself.
    """

    parent_table: ClassVar[type[MirrorRow] | None] = None

    #: The source of the row. Source and external id are the key, so that rows of two accounts never collide.
    source: str = Field(primary_key=True)
    #: The id at the source, as text.
    external_id: str = Field(primary_key=True)
    #: False from a deactivation until newer news revives the row, which stays as a tombstone.
    active: bool
    #: The time of the newest news about the row, at the source, in UTC.
    changed_at: datetime = Field(sa_type=UtcDateTime)
    #: The time of the news that made the row inactive; None while it is active.
    deactivated_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    #: Whether the order of arrival decided a column between two values with equal times.
    tie: bool = False
    #: The versions of the columns, as `receiver.mirror.versions.dump` writes them.
    versions: str

    @classmethod
    def __table_cls__(cls, name: str, metadata: MetaData, *parts: Any, **options: Any) -> Table:
        """Make the declared table; SQLAlchemy calls this. Raises `WiringError` if a table with this name exists."""
        if name in metadata.tables and not (options.get("extend_existing") or options.get("keep_existing")):
            raise WiringError(
                f"The mirror table {cls.__name__} of {cls.__module__} is named {name!r}, and there is a table of that "
                "name already: give it another `__tablename__`, because table names are global."
            )
        return Table(name, metadata, *parts, **options)


Row = TypeVar("Row", bound=MirrorRow)

#: The columns of every mirror row, which only the version guard sets.
BOOKKEEPING = frozenset(MirrorRow.model_fields)

#: The names that a handler may pass to `upsert` in addition to the table's own columns.
ACTIVE = "active"


class Key(NamedTuple):
    """The key of a row of the mirror."""

    table: type[MirrorRow]
    source: str
    external_id: str


class Write(NamedTuple):
    """One piece of news about one row."""

    key: Key
    version: Version
    #: The columns that the news is about, which may include `active`.
    columns: Mapping[str, Any]
    #: The child table whose rows below this row are deactivated, except rows with newer news.
    children_gone: type[MirrorRow] | None = None
    #: Whether the values replace those that the same delivery left in an earlier round.
    corrects: bool = False


def sql_table(table: type[MirrorRow]) -> Table:
    return table.__table__  # type: ignore[attr-defined,no-any-return]


@cache
def table_name(table: type[MirrorRow]) -> str:
    """The name of the table in the database."""
    return str(sql_table(table).name)


@cache
def own_columns(table: type[MirrorRow]) -> dict[str, Normalizer]:
    """The columns that handlers fill, each with the function that converts values into the stored form."""
    sql = sql_table(table)
    indexed = {column.name for index in sql.indexes for column in index.columns}
    return {
        column.name: normalizer(column.type, is_indexed=column.name in indexed)
        for column in sql.columns
        if column.name not in BOOKKEEPING
    }


@cache
def exact_columns(table: type[MirrorRow]) -> tuple[str, ...]:
    """The columns with values for which JSON has no type, such as decimals and times."""
    return tuple(name for name, normal in own_columns(table).items() if normal not in PLAIN_NORMALIZERS)


@cache
def indexed_texts(table: type[MirrorRow]) -> tuple[str, ...]:
    """The own columns of text that have an index."""
    return tuple(name for name, normal in own_columns(table).items() if normal is INDEXED_TEXT_NORMALIZER)


@cache
def unknown_values(table: type[MirrorRow]) -> dict[str, None]:
    """The own columns of a row of which nothing is known, in the table's order."""
    return dict.fromkeys(own_columns(table))


def child_tables(table: type[MirrorRow]) -> list[type[MirrorRow]]:
    """The tables whose rows are deactivated with their parent in `table`."""
    return [child for child in _tables_below(MirrorRow) if child.parent_table is table]


def mirror_tables() -> list[type[MirrorRow]]:
    """All declared mirror tables, in a stable order. Raises `WiringError` for an invalid table."""
    tables = sorted(_tables_below(MirrorRow), key=lambda table: sql_table(table).name)
    for table in tables:
        required = [column.name for column in sql_table(table).columns if not column.nullable]
        missing = sorted(set(required) - BOOKKEEPING)
        if missing:
            raise WiringError(
                f"The mirror table {table.__name__} requires {', '.join(missing)}: make every column of its own "
                "optional (`… | None = None`), since an event may have values for some columns only."
            )
        if table.parent_table is not None and "parent" not in own_columns(table):
            raise WiringError(f"The mirror table {table.__name__} names a parent table but has no `parent` column.")
        _refuse_grandparent(table)
    return tables


def _refuse_grandparent(table: type[MirrorRow]) -> None:
    """Raise `WiringError` for a table whose parents have parents: a deactivation reaches a row's own children only.

    Nothing shows whether a row below them is gone, once the row between has newer news.
    """
    parent = table.parent_table
    if parent is not None and parent.parent_table is not None:
        raise WiringError(
            f"The mirror table {table.__name__} names {parent.__name__} as its `parent_table`, which has a parent "
            "table itself, so its rows would stay active without their grandparent: remove its `parent_table`, keep "
            "the id in `parent`, and let handlers deactivate its rows."
        )


def tables_by_name() -> dict[str, type[MirrorRow]]:
    """All declared mirror tables by their names in the database, in a stable order. Raises as `mirror_tables` does."""
    return {table_name(table): table for table in mirror_tables()}


def _tables_below(base: type[MirrorRow]) -> Iterable[type[MirrorRow]]:
    for table in base.__subclasses__():
        if hasattr(table, "__table__"):
            yield table
        yield from _tables_below(table)


def price_field() -> Any:
    """Make a column for an exact decimal."""
    return Field(default=None, sa_type=ExactDecimal)


def time_field() -> Any:
    """Make a column for a time with an offset, stored in UTC."""
    return Field(default=None, sa_type=UtcDateTime)


def document_field() -> Any:
    """Make a column for a JSON value, stored exactly. `Patch` updates single members of an object in it."""
    return Field(default=None, sa_type=Document)


def check_id(name: str, value: Any) -> None:
    """Raise `Unreadable` for a text that is longer than an index of PostgreSQL can hold."""
    if isinstance(value, str) and len(value) > LONGEST_NAME:
        # The source's mistake, not the handler's: a second attempt would find the same id in the body.
        raise Unreadable(f"`{name}` is longer than {LONGEST_NAME} characters. Let the dialect shorten it.")
