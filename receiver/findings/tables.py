"""The tables of tallies and findings, and of the duties that one process at a time does for all."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import BigInteger, Column, Float, Index, Integer, Table, text
from sqlmodel import Field, SQLModel

from receiver.database.columns import Document, UtcDateTime


class Tally(SQLModel, table=True):
    """The number of events of one kind in a minute or in an hour."""

    __tablename__ = "tallies"
    __table_args__ = (Index("ix_tallies_at", "span", "at"), {"sqlite_with_rowid": False})

    #: Seconds: a minute or an hour.
    span: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    #: Empty if it concerns no single source.
    source: str = Field(primary_key=True)
    #: The kind of event, see `receiver.findings.counting`.
    kind: str = Field(primary_key=True)
    #: The beginning of the minute or hour.
    at: datetime = Field(primary_key=True, sa_type=UtcDateTime)
    #: A further distinction, such as the error code of a refused request.
    detail: str = Field(primary_key=True)
    #: The end of the process's name; empty for an hour, which sums all processes.
    process: str = Field(primary_key=True)
    number: int = Field(sa_type=BigInteger)
    #: A sum of amounts, for kinds that have them: seconds for lag and freshness.
    amount: float = Field(sa_type=Float)


class Evidence(Document):
    """The evidence of a finding."""

    shape: ClassVar[Any] = dict[str, Any]
    mend = "While the finding is open, it is written again within a minute."


class FindingRow(SQLModel, table=True):
    """One finding, from its opening to its closing."""

    __tablename__ = "findings"
    __table_args__ = (
        Index(
            "ix_findings_open",
            "id",
            unique=True,
            sqlite_where=text("closed_at IS NULL"),
            postgresql_where=text("closed_at IS NULL"),
        ),
        Index("ix_findings_opened", "opened_at"),
    )

    #: Stable for as long as the rule finds the same condition.
    id: str = Field(primary_key=True)
    opened_at: datetime = Field(primary_key=True, sa_type=UtcDateTime)
    rule: str
    #: Empty if it concerns no single source.
    source: str
    #: The time at which the condition began.
    since: datetime = Field(sa_type=UtcDateTime)
    says: str
    #: The advice.
    mend: str
    evidence: Any = Field(sa_type=Evidence)
    #: The time at which the rule last found the condition.
    seen_at: datetime = Field(sa_type=UtcDateTime)
    closed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    acknowledged_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    acknowledged_by: str | None = None


class Duty(SQLModel, table=True):
    """The lease of one process on work that it does for all."""

    __tablename__ = "duties"

    name: str = Field(primary_key=True)
    holder: str
    #: The end of the lease; afterwards another process may take the duty.
    until: datetime = Field(sa_type=UtcDateTime)


TALLIES: Table = Tally.__table__  # type: ignore[attr-defined]
FINDINGS: Table = FindingRow.__table__  # type: ignore[attr-defined]
DUTIES: Table = Duty.__table__  # type: ignore[attr-defined]
