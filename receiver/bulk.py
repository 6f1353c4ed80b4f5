"""Many rows in one statement, past the parts of SQLAlchemy that cost more than the database does.

One multi-row INSERT instead of one step per row: between the steps of `executemany` the SQLite driver gives the
interpreter's lock away, and a busy event loop takes it for a whole switch interval each time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Dialect, Table

#: Parameters of one statement, far below what either database takes: the texts of statements are kept.
PARAMETERS = 4_000

#: Texts of statements that are kept, one for each table and number of rows.
TEXTS = 256


def insert_rows(
    connection: Connection, table: Table, names: tuple[str, ...], rows: Sequence[Sequence[Any]], *, conflict: str = ""
) -> int:
    """Insert rows whose values stand in the order of the columns `names`. Returns how many rows were touched.

    `conflict` is an ON CONFLICT clause.
    """
    if not rows:
        return 0
    per_statement = PARAMETERS // len(names)
    touched = 0
    for start in range(0, len(rows), per_statement):
        some = rows[start : start + per_statement]
        sql = _statement(table, names, len(some), conflict, connection.dialect.paramstyle)
        # Column by column, because most columns need no processing.
        columns: list[Sequence[Any]] = list(zip(*some, strict=True))
        for position, process in _processors(table, names, connection.dialect):
            columns[position] = list(map(process, columns[position]))
        parameters = tuple(chain.from_iterable(zip(*columns, strict=True)))
        touched += connection.exec_driver_sql(sql, parameters).rowcount
    return touched


def insert_mappings(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], *, conflict: str = ""
) -> int:
    """As `insert_rows`, for rows as mappings that all have the same columns in the same order."""
    if not rows:
        return 0
    return insert_rows(connection, table, tuple(rows[0]), [tuple(row.values()) for row in rows], conflict=conflict)


@cache
def replace_clause(table: Table) -> str:
    """The ON CONFLICT clause that makes an INSERT an upsert of whole rows."""
    keys = ", ".join(f'"{column.name}"' for column in table.primary_key)
    rest = ", ".join(
        f'"{column.name}" = excluded."{column.name}"' for column in table.columns if not column.primary_key
    )
    return f"ON CONFLICT ({keys}) DO UPDATE SET {rest}"


@lru_cache(maxsize=TEXTS)
def _statement(table: Table, names: tuple[str, ...], rows: int, conflict: str, paramstyle: str) -> str:
    mark = "?" if paramstyle == "qmark" else "%s"
    columns = ", ".join(f'"{name}"' for name in names)
    row = f"({', '.join([mark] * len(names))})"
    # Names come from our own table definitions, and every value travels as a parameter.
    return f'INSERT INTO "{table.name}" ({columns}) VALUES {", ".join([row] * rows)} {conflict}'  # noqa: S608


@cache
def _processors(table: Table, names: tuple[str, ...], dialect: Dialect) -> list[tuple[int, Callable[[Any], Any]]]:
    found = [table.c[name].type.dialect_impl(dialect).bind_processor(dialect) for name in names]
    return [(position, process) for position, process in enumerate(found) if process is not None]
