"""Limits the waits for locks within one transaction, where the limit of each session is too long."""

from __future__ import annotations

from sqlalchemy import Connection, text


def limit_lock_waits(connection: Connection, seconds: float) -> None:
    """Let the following statements of the transaction wait for each lock for at most `seconds`.

    One that waits longer raises SQLAlchemy's error, which `is_lock_timeout` recognises. SQLite has one lock, which the
    transaction already holds.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_LIMIT, {"milliseconds": str(max(int(seconds * 1_000), 1))})


_LIMIT = text("SELECT set_config('lock_timeout', :milliseconds, true)")
