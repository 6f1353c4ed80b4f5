"""The sources of which something is stored, those that have left the settings included."""

from __future__ import annotations

from sqlalchemy import Connection, Table, func, literal, select

from receiver.database.database import Database
from receiver.inbox.tables import DEDUP_KEYS, DELIVERIES
from receiver.mirror.rows import mirror_tables, sql_table


def is_source(database: Database, name: str) -> bool:
    """Whether anything that is stored came from a source of this name, one that has left the settings included."""
    tables = [DELIVERIES, *map(sql_table, mirror_tables())]
    with database.read() as connection:
        return any(
            connection.execute(select(literal(1)).where(table.c.source == name).limit(1)).first() for table in tables
        )


def stored_sources(connection: Connection) -> list[str]:
    """The names of all of them, each found by one step along an index."""
    tables = (DEDUP_KEYS, *map(sql_table, mirror_tables()))
    return sorted({name for table in tables for name in _sources(connection, table)})


def _sources(connection: Connection, table: Table) -> list[str]:
    first = select(func.min(table.c.source).label("source")).cte("sources", recursive=True)
    following = select(func.min(table.c.source)).where(table.c.source > first.c.source).scalar_subquery()
    sources = first.union_all(select(following).where(first.c.source.is_not(None)))
    return list(connection.execute(select(sources.c.source).where(sources.c.source.is_not(None))).scalars())
