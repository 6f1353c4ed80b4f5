"""Small things asked of the lowest layers: headers as verifiers read them, and whether a database answers."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import text

from receiver.database.database import Database
from receiver.verify.request import RawHeaders


def raw_headers(headers: Mapping[str, str]) -> RawHeaders:
    """Headers of a client, in the shape the verifiers read."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def ping(database: Database) -> None:
    """Raises SQLAlchemy's error if the database does not answer."""
    with database.read() as connection:
        connection.execute(text("SELECT 1"))
