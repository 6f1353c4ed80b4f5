"""Foreign keys of a table to itself, such as of a shelf to the one above it, and of tables to each other in a circle.

Rows come table by table in the order of their keys, in which a row may come before the one that it refers to, so that
these are checked at the end of a transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, Table, text
from sqlalchemy.exc import IntegrityError

from receiver.copying.preconditions import without_limits
from receiver.errors import CopyError
from receiver.logs.safe_text import told


def circles(tables: Sequence[Table]) -> list[list[Table]]:
    """The tables, each after those that it refers to; tables that refer to each other in a circle are one group."""
    direct = {table: {key.referred_table for key in table.foreign_key_constraints} for table in tables}
    reached = {table: _reached(table, direct) for table in tables}
    groups: list[list[Table]] = []
    placed: set[Table] = set()

    def place(table: Table) -> None:
        if table in placed:
            return
        group = [each for each in tables if each is table or (each in reached[table] and table in reached[each])]
        placed.update(group)
        for each in tables:
            if any(each in direct[other] for other in group):
                place(each)
        groups.append(group)

    for table in tables:
        place(table)
    return groups


def _reached(table: Table, direct: dict[Table, set[Table]]) -> set[Table]:
    """The tables to which references of the table lead, directly or through other tables."""
    found: set[Table] = set()
    waiting = [table]
    while waiting:
        further = direct.get(waiting.pop(), set()) - found
        found |= further
        waiting += further
    return found


def is_circle(tables: Sequence[Table]) -> bool:
    """Whether rows of these tables may refer to rows that come later: of the same table, or of another one."""
    keys = (key for table in tables for key in table.foreign_key_constraints)
    return any(key.referred_table in tables for key in keys)


@contextmanager
def checked_at_end(connection: Connection, tables: Sequence[Table]) -> Iterator[None]:
    """Let PostgreSQL check these tables' references to each other at the end of the block.

    Raises `CopyError` if one fails. Our connections to SQLite do not check them. For tables that are no circle, this
    does nothing.
    """
    if connection.dialect.name != "postgresql" or not is_circle(tables):
        yield
        return
    # The transaction lasts as long as the tables are read.
    without_limits(connection)
    prepare = connection.dialect.identifier_preparer
    named = [prepare.format_table(table) for table in tables]
    alter = [
        f"ALTER TABLE {name} ALTER CONSTRAINT {prepare.quote(constraint)}"
        for name in named
        for constraint in connection.execute(_CHECKED_AT_ONCE, {"table": name, "tables": named}).scalars()
    ]
    for each in alter:
        connection.execute(text(f"{each} DEFERRABLE"))
    connection.execute(text("SET CONSTRAINTS ALL DEFERRED"))
    yield
    try:
        connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
    except IntegrityError as error:
        detail = getattr(getattr(error.orig, "diag", None), "message_detail", None)
        where = getattr(getattr(error.orig, "diag", None), "table_name", None) or tables[0].name
        raise CopyError(
            f"{where}: TO refuses a row of this table ({detail or told(error)}). Mend or delete the rows with "
            "that value, and run this again."
        ) from None
    for each in alter:
        connection.execute(text(f"{each} NOT DEFERRABLE"))


_CHECKED_AT_ONCE = text(
    "SELECT conname FROM pg_constraint WHERE contype = 'f' AND NOT condeferrable "
    "AND conrelid = CAST(:table AS regclass) AND confrelid = ANY(CAST(:tables AS regclass[]))"
)
