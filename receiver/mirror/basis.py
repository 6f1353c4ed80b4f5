"""The basis of an effect on the mirror: the rows that were read for it, and whether they are still the same.

An effect that was computed without a lock may be written only if a later transaction, which locks out all other
writers, finds the same rows: no row has other news, none is new, and none is gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, Text, bindparam, select

from receiver.database.columns import Many, among
from receiver.mirror.rows import MirrorRow, sql_table


class RowsFound(NamedTuple):
    """One query for rows of a source, and its result."""

    table: type[MirrorRow]
    source: str
    #: `external_id`, or `parent` for the children of rows.
    column: str
    #: The values of that column.
    values: list[str]
    #: The external id, `active` and versions of each row, in the order of ids. Versions change with every news, range
    #: tombstones included, and determine the row's own values.
    found: list[tuple[Any, ...]]


def still_holds(connection: Connection, basis: Iterable[RowsFound]) -> bool:
    """Whether every query finds the same rows with the same versions, and no other."""
    return all(_finds(connection, each) == each.found for each in basis)


def _finds(connection: Connection, read: RowsFound) -> list[tuple[Any, ...]]:
    parameters = {"source": read.source, "values": read.values}
    return list(map(tuple, connection.execute(rows_among(read.table, read.column), parameters).all()))


@cache
def rows_among(
    table: type[MirrorRow], column: str, *, own_columns: tuple[str, ...] = (), lock: bool = False
) -> Select[Any]:
    """Select external id, `active`, versions and `own_columns` of the rows whose `column` is among some values.

    In the order of ids. The parameters are `source` and `values`.
    """
    sql = sql_table(table)
    known = among(sql.c[column], bindparam("values", type_=Many(Text)))
    wanted = select(sql.c.external_id, sql.c.active, sql.c.versions, *(sql.c[name] for name in own_columns))
    found = wanted.where(sql.c.source == bindparam("source"), known).order_by(sql.c.external_id)
    return found.with_for_update() if lock else found
