"""The table of sessions: who is signed in to the console, and since when."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, Table
from sqlmodel import Field, SQLModel

from receiver.database.columns import UtcDateTime


class SessionRow(SQLModel, table=True):
    """One session. What is in the cookie is not kept, only its hash."""

    __tablename__ = "sessions"
    __table_args__ = (Index("ix_sessions_ends_at", "ends_at"),)

    #: The hash of what the cookie holds.
    id: str = Field(primary_key=True)
    #: The hash of the link that began it, which begins no second one.
    link: str = Field(unique=True)
    name: str
    role: str
    created_at: datetime = Field(sa_type=UtcDateTime)
    seen_at: datetime = Field(sa_type=UtcDateTime)
    ends_at: datetime = Field(sa_type=UtcDateTime)


SESSIONS: Table = SessionRow.__table__  # type: ignore[attr-defined]
