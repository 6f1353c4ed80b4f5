"""Tallies: numbers of events by the minute, and by the hour after two weeks.

Each process adds its own rows once a minute. Tallies hold the past; the other tables hold the present.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, String, Text, bindparam, func, select

from receiver.database.bulk import insert_mappings
from receiver.database.columns import Many, UtcDateTime, among
from receiver.database.database import Database
from receiver.findings.counting import KindCount, TallyKey
from receiver.findings.tables import TALLIES
from receiver.moments import EPOCH

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)

#: The retention periods of tallies by the minute and by the hour.
MINUTES_KEPT, HOURS_KEPT = timedelta(days=14), timedelta(days=400)

#: The longest detail, in characters.
LONGEST_DETAIL = 200

#: Steps longer than a minute. For each, how many characters of SQLite's text of a time stay in the text of the step's
#: beginning, and the characters that follow them.
_STEPS = {HOUR: (13, ":00:00.000000Z"), timedelta(minutes=10): (15, "0:00.000000Z")}

# A minute occurs twice if the clock is set back.
_ADD = (
    "ON CONFLICT (span, source, kind, at, detail, process) DO UPDATE "
    "SET number = tallies.number + excluded.number, amount = tallies.amount + excluded.amount"
)


class Tallied(NamedTuple):
    """A tally of a minute or an hour, summed over all processes."""

    at: datetime
    source: str
    kind: str
    detail: str
    number: int
    amount: float = 0.0


def add(
    connection: Connection,
    process: str,
    counted: Mapping[TallyKey, KindCount],
    *,
    at: datetime,
    span: timedelta = MINUTE,
) -> None:
    """Add a process's counts to the minute that contains `at`, or to another span that begins on the hour."""
    rows = [
        {
            "span": int(span.total_seconds()),
            "source": key.source,
            "kind": key.kind,
            "at": beginning(at, span),
            "detail": key.detail[:LONGEST_DETAIL],
            "process": process,
            "number": count.number,
            "amount": count.amount,
        }
        for key, count in counted.items()
    ]
    insert_mappings(connection, TALLIES, rows, conflict=_ADD)


def number_at(connection: Connection, process: str, key: TallyKey, at: datetime) -> int:
    """The number that this process has written for the minute that contains `at`; 0 without one."""
    wanted = (TALLIES.c.span == int(MINUTE.total_seconds()), TALLIES.c.at == beginning(at, MINUTE))
    of_it = (
        TALLIES.c.source == key.source,
        TALLIES.c.kind == key.kind,
        TALLIES.c.detail == key.detail[:LONGEST_DETAIL],
    )
    found = select(TALLIES.c.number).where(*wanted, *of_it, TALLIES.c.process == process)
    return connection.execute(found).scalar() or 0


def between(connection: Connection, after: datetime, until: datetime) -> list[Tallied]:
    """The tallies by the minute after `after` and up to `until`, summed over the processes, oldest first."""
    return _read(connection, _minutes(TALLIES.c.at > after, TALLIES.c.at <= until))


def by_kind(
    connection: Connection,
    sources: Sequence[str],
    kinds: Sequence[str],
    after: datetime,
    until: datetime,
    *,
    width: timedelta,
) -> list[Tallied]:
    """The tallies of these kinds from `after` on and before `until`, summed over these sources, in no order.

    Each sums a step of a minute, ten minutes or an hour: the longest step of which `width` is a multiple.
    """
    step = _in_steps(connection, width)
    found: list[Tallied] = []
    # One query for each kind, because SQLite groups by fewer columns in half the time.
    for kind in kinds:
        # Each source is a range of the primary key.
        wanted = (TALLIES.c.span == int(MINUTE.total_seconds()), TALLIES.c.source.in_(sources), TALLIES.c.kind == kind)
        summed = select(step, TALLIES.c.detail, func.sum(TALLIES.c.number)).group_by(step, TALLIES.c.detail)
        rows = connection.execute(summed.where(*wanted, TALLIES.c.at >= after, TALLIES.c.at < until)).all()
        found += [Tallied(at, "", kind, detail, int(number)) for at, detail, number in rows]
    return found


def _in_steps(connection: Connection, width: timedelta) -> ColumnElement[datetime]:
    """An expression for the beginning of a minute's step, with which the database sums faster than Python could."""
    step = next((step for step in _STEPS if not width % step), None)
    if step is None:
        return TALLIES.c.at
    if connection.dialect.name == "postgresql":
        return func.date_bin(step, TALLIES.c.at, EPOCH, type_=UtcDateTime())
    length, rest = _STEPS[step]
    return func.substr(TALLIES.c.at, 1, length, type_=String()).concat(rest).cast(UtcDateTime())


class SourceTotal(NamedTuple):
    """The number of events of one kind at a source, and the last minute with one."""

    source: str
    kind: str
    detail: str
    number: int
    #: None if only hours were read.
    last: datetime | None


def totals(
    connection: Connection, sources: Sequence[str], kinds: Sequence[str], after: datetime, until: datetime
) -> list[SourceTotal]:
    """Sum the minutes of these sources and kinds from `after` on and before `until`, by source, kind and detail."""
    columns = (TALLIES.c.source, TALLIES.c.kind, TALLIES.c.detail)
    # Each source and kind is a range of the primary key.
    wanted = (TALLIES.c.span == int(MINUTE.total_seconds()), TALLIES.c.source.in_(sources), TALLIES.c.kind.in_(kinds))
    found = select(*columns, func.sum(TALLIES.c.number), func.max(TALLIES.c.at, type_=TALLIES.c.at.type))
    of_it = (*wanted, TALLIES.c.at >= after, TALLIES.c.at < until)
    rows = connection.execute(found.where(*of_it).group_by(*columns)).all()
    return [SourceTotal(source, kind, detail, int(number), last) for source, kind, detail, number, last in rows]


def minutes_of(
    connection: Connection, source: str, kinds: Sequence[str], after: datetime, until: datetime
) -> list[datetime]:
    """The minutes that have any of these kinds, the oldest first."""
    found: set[datetime] = set()
    for kind in kinds:
        wanted = (TALLIES.c.source == source, TALLIES.c.kind == kind, TALLIES.c.at > after, TALLIES.c.at <= until)
        minutes = select(TALLIES.c.at).where(TALLIES.c.span == int(MINUTE.total_seconds()), *wanted).distinct()
        found.update(connection.execute(minutes).scalars())
    return sorted(found)


def last(
    connection: Connection, source: str, kind: str, until: datetime, *, details: Sequence[str] | None = None
) -> datetime | None:
    """The last minute up to `until` with a tally of this kind, and of one of `details` if they are given.

    None if no such tally by the minute is left.
    """
    wanted = [TALLIES.c.span == 60, TALLIES.c.source == source, TALLIES.c.kind == kind, TALLIES.c.at <= until]
    if details is not None:
        wanted.append(TALLIES.c.detail.in_(details))
    found = select(TALLIES.c.at).where(*wanted).order_by(TALLIES.c.at.desc()).limit(1)
    at: datetime | None = connection.execute(found).scalar()
    return at


def last_arrivals(connection: Connection, sources: Iterable[str], until: datetime) -> dict[str, datetime]:
    """The last minute up to `until` with an accepted webhook, by source; without sources that have none."""
    statement = _LAST_ARRIVALS[connection.dialect.name]
    rows = connection.execute(statement, {"sources": list(sources), "until": until})
    minutes = {source: [at for at in ends if at is not None] for source, *ends in rows}
    return {source: max(ends) for source, ends in minutes.items() if ends}


def number_of(
    connection: Connection, source: str, kind: str, details: Sequence[str], after: datetime, before: datetime
) -> int:
    """The sum of the minutes with one of these details after `after` and before `before`."""
    wanted = (TALLIES.c.span == int(MINUTE.total_seconds()), TALLIES.c.source == source, TALLIES.c.kind == kind)
    within = (TALLIES.c.at > after, TALLIES.c.at < before, TALLIES.c.detail.in_(details))
    return int(connection.execute(select(func.sum(TALLIES.c.number)).where(*wanted, *within)).scalar() or 0)


class DetailTotal(NamedTuple):
    """The number of events with one detail at a source, and the first and the last minute or hour with one."""

    source: str
    detail: str
    number: int
    first: datetime
    last: datetime


def details(
    connection: Connection, sources: Sequence[str], kind: str, after: datetime, until: datetime
) -> list[DetailTotal]:
    """Sum minutes and hours of one kind after `after` and up to `until`, by source and detail."""
    asked = {"sources": list(sources), "kind": kind, "after": after, "until": until}
    rows = connection.execute(_DETAILS, asked).all()
    return [DetailTotal(source, detail, int(number), *times) for source, detail, number, *times in rows]


class TallyPart(NamedTuple):
    """A page of tallies, and the time from which the next page continues; None on the last."""

    items: list[Tallied]
    following: datetime | None


def page(
    database: Database,
    *,
    span: timedelta,
    after: datetime,
    until: datetime,
    source: str | None,
    kind: str | None,
    limit: int,
) -> TallyPart:
    """A page of minutes or hours from `after` on and before `until`, summed over the processes, oldest first.

    A page holds whole minutes or hours, so it exceeds `limit` if a single one does.
    """
    wanted: list[ColumnElement[bool]] = [TALLIES.c.at >= after, TALLIES.c.at < until]
    if source is not None:
        wanted.append(TALLIES.c.source == source)
    if kind is not None:
        wanted.append(TALLIES.c.kind == kind)
    found = _summed(span, *wanted).order_by(*_IDENTITY)
    with database.read() as connection:
        items = _read(connection, found.limit(limit + 1))
        if len(items) <= limit:
            return TallyPart(items, None)
        last = items[-1].at
        whole = [each for each in items if each.at < last]
        if whole:
            return TallyPart(whole, last)
        return TallyPart(_read(connection, found.where(TALLIES.c.at == last)), last + span)


_IDENTITY = (TALLIES.c.at, TALLIES.c.source, TALLIES.c.kind, TALLIES.c.detail)


def _minutes(*wanted: ColumnElement[bool]) -> Select[Any]:
    return _summed(MINUTE, *wanted).order_by(TALLIES.c.at)


def _summed(span: timedelta, *wanted: ColumnElement[bool]) -> Select[Any]:
    number, amount = func.sum(TALLIES.c.number).label("number"), func.sum(TALLIES.c.amount).label("amount")
    found = select(*_IDENTITY, number, amount).where(TALLIES.c.span == int(span.total_seconds()), *wanted)
    return found.group_by(*_IDENTITY)


def _read(connection: Connection, wanted: Select[Any]) -> list[Tallied]:
    rows = connection.execute(wanted).all()
    return [Tallied(at, source, kind, detail, int(number), amount) for at, source, kind, detail, number, amount in rows]


def _last_arrivals(source: ColumnElement[str]) -> Select[Any]:
    """Select each source and the last minutes with one of its webhooks, each found by one step along the key."""
    ends = [
        select(func.max(TALLIES.c.at, type_=TALLIES.c.at.type))
        .where(TALLIES.c.span == int(MINUTE.total_seconds()), TALLIES.c.source == source, TALLIES.c.kind == kind)
        .where(TALLIES.c.at <= bindparam("until", type_=TALLIES.c.at.type))
        .scalar_subquery()
        for kind in ("accepted", "duplicate")
    ]
    return select(source, *ends)


_SOURCES = bindparam("sources", type_=Many(Text))


def _details() -> Select[Any]:
    columns = (TALLIES.c.source, TALLIES.c.detail)
    first, latest = (extreme(TALLIES.c.at, type_=TALLIES.c.at.type) for extreme in (func.min, func.max))
    found = select(*columns, func.sum(TALLIES.c.number), first, latest).where(
        TALLIES.c.span.in_([int(MINUTE.total_seconds()), int(HOUR.total_seconds())]),
        among(TALLIES.c.source, _SOURCES),
        TALLIES.c.kind == bindparam("kind"),
        TALLIES.c.at > bindparam("after"),
        TALLIES.c.at <= bindparam("until"),
    )
    return found.group_by(*columns).order_by(*columns)


_DETAILS = _details()

#: By database, because each makes rows of a list in its own way.
_LAST_ARRIVALS = {
    "sqlite": _last_arrivals(func.json_each(_SOURCES).table_valued("value").c.value),
    "postgresql": _last_arrivals(func.unnest(_SOURCES).column_valued("asked")),
}


def beginning(moment: datetime, span: timedelta) -> datetime:
    """The beginning of the minute or hour that contains the moment."""
    return EPOCH + (moment - EPOCH) // span * span
