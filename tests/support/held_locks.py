"""Locks that another session of PostgreSQL holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text

from receiver.database.database import Database


@contextmanager
def held(database: Database, statement: str = "SELECT id FROM deliveries FOR UPDATE") -> Iterator[Connection]:
    """Hold the locks of a statement in a transaction that stays open for the block."""
    with database.engine.connect() as connection:
        connection.execute(text(statement))
        yield connection
        connection.rollback()
