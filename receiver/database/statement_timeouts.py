"""Statement timeouts for one block within a transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text

from receiver.database.sqlite.connections import ending_statements

#: PostgreSQL takes 0 for no limit at all.
LEAST_MILLISECONDS = 1


@contextmanager
def statement_timeout(connection: Connection, seconds: float) -> Iterator[Callable[[float], None]]:
    """End a statement of the block after `seconds`, which SQLite counts from the beginning of the block.

    Yields a function that sets the seconds for the following statements, which SQLite does not need. Raises
    SQLAlchemy's error, which `is_overdue` recognises; the transaction can go on after it. The block only reads.
    """
    if connection.dialect.name != "postgresql":
        with ending_statements(connection.connection, seconds):
            yield lambda _: None
        return

    def limit(left: float) -> None:
        connection.execute(_LIMIT, _milliseconds(left))

    with connection.begin_nested():
        before = connection.execute(_BEGIN, _milliseconds(seconds)).scalar_one()
        yield limit
        # Not left to a rollback of the savepoint, because psycopg drops all prepared statements after any rollback.
        connection.execute(_LIMIT, {"milliseconds": before})


def _milliseconds(seconds: float) -> dict[str, str]:
    return {"milliseconds": str(max(int(seconds * 1_000), LEAST_MILLISECONDS))}


_LIMIT = text("SELECT set_config('statement_timeout', :milliseconds, true)")

#: Returns the limit so far. PostgreSQL evaluates the columns from left to right.
_BEGIN = text("SELECT current_setting('statement_timeout'), set_config('statement_timeout', :milliseconds, true)")
