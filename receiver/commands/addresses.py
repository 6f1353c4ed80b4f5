"""Finds the URL of a process of this machine in the database, for commands that also work without it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from receiver.database.database import Database
from receiver.database.urls import absent_file
from receiver.errors import HookmirrorError
from receiver.settings.settings import Settings


def recorded_here(settings: Settings, find: Callable[[Connection, datetime], str | None]) -> str | None:
    """The URL that `find` reads from the registry of processes; None without one, or without a database."""
    with suppress(SQLAlchemyError, HookmirrorError), closing(Database(settings.database_url)) as database:
        if absent_file(database.engine.url) is None:
            with database.read() as connection:
                return find(connection, datetime.now(UTC))
    return None
