"""Which database this is: a random name that it got when its tables were made, and that a copy of it shares.

What is handed out and comes back, such as a cursor, names it, so that another database does not take it for its own.
"""

from __future__ import annotations

from sqlalchemy import Column, Connection, Integer, Table, select
from sqlmodel import Field, SQLModel


class Identity(SQLModel, table=True):
    """The one row of this table is written by the migration that makes it."""

    __tablename__ = "identity"

    #: Always 1.
    id: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    #: 32 hexadecimal digits.
    name: str


IDENTITY: Table = Identity.__table__  # type: ignore[attr-defined]


def identity_of(connection: Connection) -> str:
    """The database's name for itself; empty for tables that no migration made."""
    return connection.execute(select(IDENTITY.c.name)).scalar() or ""
