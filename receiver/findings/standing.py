"""The current findings: the rules' results of this moment, joined with the record."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import RowMapping

from receiver.database.database import Database
from receiver.findings import record
from receiver.findings.finding import Finding
from receiver.findings.gathering import Facts, examine_shared

#: Closed findings that are shown behind the open ones.
MOST_CLOSED = 500

#: Occurrences that are shown of one finding.
MOST_OCCURRENCES = 20


class Standing(NamedTuple):
    """A finding with its record, as shown to people."""

    id: str
    rule: str
    source: str
    since: datetime
    says: str
    mend: str
    evidence: Mapping[str, Any]
    #: None for a finding that is not recorded yet.
    opened_at: datetime | None
    closed_at: datetime | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None

    @classmethod
    def of(cls, row: RowMapping) -> Standing:
        """Make one from its recorded row."""
        return cls(*(row[name] for name in cls._fields))


class PresentFindings(NamedTuple):
    """The findings of a moment."""

    items: list[Standing]
    #: The time at which the rules were evaluated.
    examined_at: datetime


def standing(database: Database, facts: Facts, *, now: datetime, closed: bool = False) -> PresentFindings:
    """The present findings, in the order of the rules.

    With `closed`, all open ones and then the closed ones, those opened last first.

    Writes nothing. Raises SQLAlchemy's error, and `Unavailable` if another thread takes long to evaluate the rules.
    """
    with database.read() as connection:
        known = {row["id"]: row for row in record.open_findings(connection)}
        ended = record.closed_findings(connection, limit=MOST_CLOSED) if closed else []
    found, examined_at = examine_shared(database, facts, now=now, recorded=known)
    if closed:
        new = (_merged(each, None) for each in found if each.id not in known)
        recorded = (*reversed(known.values()), *ended)
        return PresentFindings([*new, *map(Standing.of, recorded)], examined_at)
    return PresentFindings([_merged(finding, known.get(finding.id)) for finding in found], examined_at)


def history(database: Database, facts: Facts, finding_id: str, *, now: datetime) -> list[Standing]:
    """One finding as it stands now, and then its earlier occurrences, the latest first; empty for an unknown id."""
    with database.read() as connection:
        recorded = record.occurrences(connection, finding_id, limit=MOST_OCCURRENCES)
    current = [each for each in standing(database, facts, now=now).items if each.id == finding_id]
    # A rule may find nothing any more while the record is still open.
    past = [Standing.of(row) for row in recorded if row["closed_at"] is not None or not current]
    return [*current, *past]


def _merged(finding: Finding, row: RowMapping | None) -> Standing:
    since = finding.since if row is None else min(row["since"], finding.since)
    said = (finding.id, finding.rule, finding.source, since, finding.says, finding.mend, finding.evidence)
    if row is None:
        return Standing(*said, None, None, None, None)
    return Standing(*said, row["opened_at"], None, row["acknowledged_at"], row["acknowledged_by"])
