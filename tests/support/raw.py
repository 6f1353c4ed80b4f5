"""Small helpers below HTTP clients and the inbox: headers in raw form, and a check that a database answers."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import text

from receiver.database.database import Database
from receiver.verify.request import RawHeaders


def raw_headers(headers: Mapping[str, str]) -> RawHeaders:
    """Convert a client's headers to the form that verifiers read."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def ping(database: Database) -> None:
    """Query the database. Raises SQLAlchemy's error if it does not answer."""
    with database.read() as connection:
        connection.execute(text("SELECT 1"))
