"""Asks a source for single rows."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from receiver.database.database import Database
from receiver.database.errors import retry_transaction
from receiver.dialects.listing import Listed, Wanted
from receiver.dialects.sources import Source
from receiver.errors import ConfigurationError
from receiver.mirror.rows import Key, MirrorRow, own_columns, sql_table, table_name
from receiver.reconcile.question import Asking


def check_lookup(source: Source, table: type[MirrorRow]) -> None:
    """Raise `ConfigurationError` if the dialect has no lookup for the table."""
    lookup = source.dialect.lookup_of
    if lookup is None or table not in lookup.tables:
        others = f"run `hookmirror reconcile {source.name}`, which compares all rows, or " if source.can_list() else ""
        raise ConfigurationError(
            f"The dialect {source.dialect.name} has no lookup for rows of {table_name(table)}: {others}write one "
            f"with @{source.dialect.name}.lookup(…)."
        )


def wanted(database: Database, key: Key) -> Wanted:
    """Describe the row to look up, with its parent if the mirror has it."""
    if "parent" not in own_columns(key.table):
        return Wanted(key.table, key.external_id)
    own = sql_table(key.table)
    found = select(own.c.parent).where(own.c.source == key.source, own.c.external_id == key.external_id)

    def read() -> str | None:
        with database.read() as connection:
            return connection.execute(found).scalar()

    return Wanted(key.table, key.external_id, retry_transaction(read))


def look_up(source: Source, asking: Asking, each: Wanted) -> Sequence[Listed]:
    """Look up a row and return the source's answer, empty if the row is gone.

    Raises `ApiError` for an answer that cannot be read, and `ConfigurationError` if the dialect cannot ask.
    """
    check_lookup(source, each.table)
    assert source.dialect.lookup_of is not None
    return list(source.dialect.lookup_of.ask(asking.client, each))
