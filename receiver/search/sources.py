"""Names of sources with stored data, including sources that are missing in the settings."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import CompoundSelect, Connection, Table, func, literal, select, union

from receiver.database.database import Database
from receiver.inbox.refused import REQUESTS
from receiver.inbox.tables import DEDUP_KEYS, DELIVERIES
from receiver.mirror.rows import mirror_tables, sql_table


def is_source(database: Database, name: str) -> bool:
    """Whether deliveries, rows or refused requests of this source are stored, even if it is missing in the settings."""
    tables = [DELIVERIES, REQUESTS, *map(sql_table, mirror_tables())]
    with database.read() as connection:
        return any(
            connection.execute(select(literal(1)).where(table.c.source == name).limit(1)).first() for table in tables
        )


def stored_sources(connection: Connection) -> list[str]:
    """The names of all stored sources, each found by one step along an index."""
    return list(connection.execute(_sources_in((DEDUP_KEYS, *map(sql_table, mirror_tables())))).scalars())


@cache
def _sources_in(tables: tuple[Table, ...]) -> CompoundSelect[Any]:
    """Select the distinct first parts of these tables' keys, each as the smallest value above the last."""
    steps = []
    for table in tables:
        first = select(func.min(table.c.source).label("source")).cte(f"sources_in_{table.name}", recursive=True)
        following = select(func.min(table.c.source)).where(table.c.source > first.c.source).scalar_subquery()
        found = first.union_all(select(following).where(first.c.source.is_not(None)))
        steps.append(select(found.c.source).where(found.c.source.is_not(None)))
    return union(*steps)
