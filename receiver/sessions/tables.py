"""The table of sessions, with the person, the role and the times of each."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, Table
from sqlmodel import Field, SQLModel

from receiver.database.columns import UtcDateTime


class SessionRow(SQLModel, table=True):
    """One session. The table keeps a hash of the cookie, not the cookie."""

    __tablename__ = "sessions"
    __table_args__ = (Index("ix_sessions_ends_at", "ends_at"),)

    #: The hash of the cookie's secret.
    id: str = Field(primary_key=True)
    #: The hash of the link that began it. It is unique, so a link begins one session only.
    link: str = Field(unique=True)
    name: str
    role: str
    created_at: datetime = Field(sa_type=UtcDateTime)
    seen_at: datetime = Field(sa_type=UtcDateTime)
    ends_at: datetime = Field(sa_type=UtcDateTime)


SESSIONS: Table = SessionRow.__table__  # type: ignore[attr-defined]
