"""Statement timeouts for one block within a transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text

from receiver.database.sqlite.connections import ending_statements

#: PostgreSQL takes 0 for no limit at all.
LEAST_MILLISECONDS = 1


@contextmanager
def statement_timeout(connection: Connection, seconds: float) -> Iterator[None]:
    """End a statement of the block that runs for longer than `seconds`, on SQLite counted from the block's beginning.

    Raises SQLAlchemy's error, which `is_overdue` knows. Nothing that is written inside the block is kept.
    """
    if connection.dialect.name != "postgresql":
        with ending_statements(connection.connection, seconds):
            yield
        return
    savepoint = connection.begin_nested()
    try:
        milliseconds = str(max(int(seconds * 1_000), LEAST_MILLISECONDS))
        connection.execute(_LIMIT, {"milliseconds": milliseconds})
        yield
    finally:
        # Also without an error: so the limit ends with the block.
        savepoint.rollback()


_LIMIT = text("SELECT set_config('statement_timeout', :milliseconds, true)")
