"""Foreign keys of a table to itself, such as of a shelf to the one above it: checked at the end of a transaction.

The rows come in the order of their keys, in which a row may come before the one that it refers to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Table, text
from sqlalchemy.exc import IntegrityError

from receiver.copying.preconditions import without_limits
from receiver.errors import CopyError
from receiver.logs.safe_text import told


def refers_to_itself(table: Table) -> bool:
    """Whether rows of the table may refer to other rows of it."""
    return any(key.referred_table is table for key in table.foreign_key_constraints)


@contextmanager
def checked_at_end(connection: Connection, table: Table) -> Iterator[None]:
    """Let PostgreSQL check the table's references to itself at the end of the block. Raises `CopyError` if one fails.

    Our connections to SQLite do not check them. For other tables, this does nothing.
    """
    if connection.dialect.name != "postgresql" or not refers_to_itself(table):
        yield
        return
    # The transaction lasts as long as the table is read.
    without_limits(connection)
    prepare = connection.dialect.identifier_preparer
    named = prepare.format_table(table)
    constraints = list(connection.execute(_CHECKED_AT_ONCE, {"table": named}).scalars())
    alter = [f"ALTER TABLE {named} ALTER CONSTRAINT {prepare.quote(each)}" for each in constraints]
    for each in alter:
        connection.execute(text(f"{each} DEFERRABLE"))
    connection.execute(text("SET CONSTRAINTS ALL DEFERRED"))
    yield
    try:
        connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
    except IntegrityError as error:
        detail = getattr(getattr(error.orig, "diag", None), "message_detail", None)
        raise CopyError(
            f"{table.name}: TO refuses a row of this table ({detail or told(error)}). Mend or delete the rows with "
            "that value, and run this again."
        ) from None
    for each in alter:
        connection.execute(text(f"{each} NOT DEFERRABLE"))


_CHECKED_AT_ONCE = text(
    "SELECT conname FROM pg_constraint WHERE contype = 'f' AND NOT condeferrable AND confrelid = conrelid "
    "AND conrelid = CAST(:table AS regclass)"
)
