"""Rows of the mirror, to be passed on."""

from __future__ import annotations

from typing import Any

from sqlalchemy import RowMapping, Select, select, tuple_

from receiver.database.columns import raw_columns
from receiver.database.database import Database
from receiver.mirror.rows import MirrorRow, sql_table

#: Columns of a mirror row that only the guard needs.
HIDDEN = frozenset({"versions"})


def select_rows(
    table: type[MirrorRow], *, source: str | None, active: bool | None, behind: tuple[str, str] | None
) -> Select[Any]:
    """Selects rows of a mirror table in the order of (source, external id), after the key `behind`, to be passed on."""
    sql = sql_table(table)
    statement = select(*raw_columns(sql, but=HIDDEN)).order_by(sql.c.source, sql.c.external_id)
    if source is not None:
        statement = statement.where(sql.c.source == source)
    if active is not None:
        statement = statement.where(sql.c.active == active)
    if behind is not None:
        statement = statement.where(tuple_(sql.c.source, sql.c.external_id) > tuple_(*behind))
    return statement


def row(database: Database, table: type[MirrorRow], source: str, external_id: str) -> RowMapping | None:
    """One row of a mirror table, to be passed on."""
    sql = sql_table(table)
    statement = select(*raw_columns(sql, but=HIDDEN)).where(sql.c.source == source, sql.c.external_id == external_id)
    with database.read() as connection:
        return connection.execute(statement).mappings().first()
