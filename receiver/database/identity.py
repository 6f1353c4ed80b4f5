"""The identity of a database: a random name, assigned when its tables were made and shared by its copies.

Cursors and keys contain it, so that another database does not accept them as its own.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Column, Connection, Integer, Table, select
from sqlmodel import Field, SQLModel

from receiver.database.columns import UtcDateTime


class Identity(SQLModel, table=True):
    """The table with the identity; the migration that creates the table inserts its one row."""

    __tablename__ = "identity"

    #: Always 1.
    id: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    #: 32 hexadecimal digits.
    name: str
    #: Changes that occurred up to this time may be stored under an older key (`receiver.inbox.older_keys`); None if no
    #: change is.
    older_keys_until: datetime | None = Field(default=None, sa_type=UtcDateTime)


IDENTITY: Table = Identity.__table__  # type: ignore[attr-defined]


def identity_of(connection: Connection) -> str:
    """Read the identity; empty for tables that no migration made."""
    return connection.execute(select(IDENTITY.c.name)).scalar() or ""


def older_keys_until(connection: Connection) -> datetime | None:
    """The time of change up to which older keys are looked up; None if they never are."""
    return connection.execute(select(IDENTITY.c.older_keys_until)).scalar()
