"""Uses of secrets: the time since which a source has had its present secrets, and the last use of a removed one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, func, select

from receiver.database.columns import UtcDateTime
from receiver.dialects.sources import Source
from receiver.findings.counting import SECRET_USED, SECRETS_SET
from receiver.findings.tables import TALLIES
from receiver.findings.tallies import HOUR, MINUTE
from receiver.verify.secret_marks import all_marks, mark_of_all


def marks_of_sources(sources: Mapping[str, Source]) -> dict[str, str]:
    """For each source whose secrets have marks, the mark of all of them."""
    return {name: mark_of_all(source.credentials.marks) for name, source in sources.items() if source.credentials.marks}


def secrets_since(connection: Connection, sources: Mapping[str, Source], now: datetime) -> dict[str, datetime]:
    """The minute since which each source has had its present secrets; now, if no process has written it yet."""
    return {
        name: beginning_of_details(connection, name, SECRETS_SET, set(map(mark_of_all, marks)), now) or now
        for name, source in sources.items()
        if (marks := list(all_marks(source.credentials)))
    }


def beginning_of_details(
    connection: Connection, source: str, kind: str, details: Collection[str], until: datetime
) -> datetime | None:
    """The first minute or hour of one of these details after the last one of any other; None without one."""
    of_it = _of_it(source, kind, until)
    other = connection.execute(
        select(func.max(TALLIES.c.at, type_=UtcDateTime())).where(*of_it, TALLIES.c.detail.not_in(details))
    ).scalar()
    after = () if other is None else (TALLIES.c.at >= other,)
    first = select(func.min(TALLIES.c.at, type_=UtcDateTime())).where(*of_it, TALLIES.c.detail.in_(details), *after)
    at: datetime | None = connection.execute(first).scalar()
    return at


def was_used(connection: Connection, source: str, mark: str, after: datetime, until: datetime) -> bool:
    """Whether the secret with this mark verified a webhook of the source after `after`, read from the end."""
    wanted = (TALLIES.c.source == source, TALLIES.c.kind == SECRET_USED, TALLIES.c.detail == mark)
    within = (TALLIES.c.at > after, TALLIES.c.at <= until)
    # Each span is one range of the key. A secret in use is found at the end of the first.
    ranges = (
        select(TALLIES.c.at).where(TALLIES.c.span == int(span.total_seconds()), *wanted, *within)
        for span in (MINUTE, HOUR)
    )
    return any(connection.execute(each.order_by(TALLIES.c.at.desc()).limit(1)).first() for each in ranges)


def last_use_of_removed(connection: Connection, source: str, marks: Sequence[str], until: datetime) -> datetime | None:
    """The last minute or hour in which a secret without one of these marks verified a webhook of the source."""
    of_it = _of_it(source, SECRET_USED, until)
    found = select(func.max(TALLIES.c.at, type_=UtcDateTime())).where(*of_it, TALLIES.c.detail.not_in(marks))
    at: datetime | None = connection.execute(found).scalar()
    return at


def _of_it(source: str, kind: str, until: datetime) -> Sequence[ColumnElement[bool]]:
    """The conditions for the minutes and the hours of a kind. With both spans, they are two ranges of the key."""
    spans = TALLIES.c.span.in_([int(MINUTE.total_seconds()), int(HOUR.total_seconds())])
    return spans, TALLIES.c.source == source, TALLIES.c.kind == kind, TALLIES.c.at <= until
