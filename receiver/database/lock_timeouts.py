"""Limits the waits for locks within one transaction, so that another session's lock holds up no other work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text

from receiver.database.database import Database

#: The most seconds that one statement waits for locks in a transaction whose work can be done later.
LOCK_SECONDS = 3.0


def limit_lock_waits(connection: Connection, seconds: float) -> None:
    """Let the following statements of the transaction wait for locks for at most `seconds` each.

    One that waits longer raises SQLAlchemy's error, which `is_overdue` recognises. SQLite has one lock, which the
    transaction already holds.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_LIMIT, {"milliseconds": str(max(int(seconds * 1_000), 1))})


@contextmanager
def write_unless_locked(database: Database) -> Iterator[Connection]:
    """A transaction of `Database.write` whose statements wait for locks for at most `LOCK_SECONDS` each."""
    with database.write() as connection:
        limit_lock_waits(connection, LOCK_SECONDS)
        yield connection


_LIMIT = text("SELECT set_config('lock_timeout', :milliseconds, true)")
