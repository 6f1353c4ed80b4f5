"""Tallies: numbers of events by the minute, and by the hour after two weeks.

Each process adds its own rows once a minute. Tallies hold the past; the other tables hold the present.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, String, delete, func, literal, select

from receiver.database.bulk import insert_mappings
from receiver.database.columns import UtcDateTime
from receiver.database.database import Database
from receiver.database.errors import retry_transaction
from receiver.findings.counting import KindCount, TallyKey
from receiver.findings.tables import TALLIES

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)

#: The retention periods of tallies by the minute and by the hour.
MINUTES_KEPT, HOURS_KEPT = timedelta(days=14), timedelta(days=400)

#: The longest detail, in characters.
LONGEST_DETAIL = 200

#: How many rows of hours one transaction drops.
HOURS_AT_ONCE = 2_000

#: Steps longer than a minute. For each, how many characters of SQLite's text of a time stay in the text of the step's
#: beginning, and the characters that follow them.
_STEPS = {HOUR: (13, ":00:00.000000Z"), timedelta(minutes=10): (15, "0:00.000000Z")}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

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


def add(connection: Connection, process: str, counted: Mapping[TallyKey, KindCount], *, at: datetime) -> None:
    """Add a process's counts to the minute that contains `at`."""
    minute = beginning(at, MINUTE)
    rows = [
        {
            "span": int(MINUTE.total_seconds()),
            "source": key.source,
            "kind": key.kind,
            "at": minute,
            "detail": key.detail[:LONGEST_DETAIL],
            "process": process,
            "number": count.number,
            "amount": count.amount,
        }
        for key, count in counted.items()
    ]
    insert_mappings(connection, TALLIES, rows, conflict=_ADD)


def between(connection: Connection, after: datetime, until: datetime) -> list[Tallied]:
    """The tallies by the minute after `after` and up to `until`, summed over the processes, oldest first."""
    return _read(connection, _minutes(TALLIES.c.at > after, TALLIES.c.at <= until))


def of_kind(connection: Connection, source: str, kind: str, after: datetime, until: datetime) -> list[Tallied]:
    """The tallies by the minute of one kind and source."""
    wanted = (TALLIES.c.source == source, TALLIES.c.kind == kind, TALLIES.c.at > after, TALLIES.c.at <= until)
    return _read(connection, _minutes(*wanted))


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
        rows = connection.execute(summed.where(*wanted, TALLIES.c.at >= after, TALLIES.c.at < until))
        found += [Tallied(at, "", kind, detail, int(number)) for at, detail, number in rows]
    return found


def _in_steps(connection: Connection, width: timedelta) -> ColumnElement[datetime]:
    """An expression for the beginning of a minute's step, with which the database sums faster than Python could."""
    step = next((step for step in _STEPS if not width % step), None)
    if step is None:
        return TALLIES.c.at
    if connection.dialect.name == "postgresql":
        return func.date_bin(step, TALLIES.c.at, _EPOCH, type_=UtcDateTime())
    length, rest = _STEPS[step]
    return func.substr(TALLIES.c.at, 1, length, type_=String()).concat(rest).cast(UtcDateTime())


class SourceTotal(NamedTuple):
    """The number of events of one kind at a source, and the last minute with one."""

    source: str
    kind: str
    detail: str
    number: int
    last: datetime


def totals(
    connection: Connection, sources: Sequence[str], kinds: Sequence[str], after: datetime, until: datetime
) -> list[SourceTotal]:
    """Sum the minutes of these sources and kinds from `after` on and before `until`, by source, kind and detail."""
    columns = (TALLIES.c.source, TALLIES.c.kind, TALLIES.c.detail)
    # Each source and kind is a range of the primary key.
    wanted = (TALLIES.c.span == int(MINUTE.total_seconds()), TALLIES.c.source.in_(sources), TALLIES.c.kind.in_(kinds))
    found = select(*columns, func.sum(TALLIES.c.number), func.max(TALLIES.c.at, type_=TALLIES.c.at.type))
    rows = connection.execute(found.where(*wanted, TALLIES.c.at >= after, TALLIES.c.at < until).group_by(*columns))
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
    connection: Connection, source: str, kind: str, until: datetime, *, detail: str | None = None
) -> datetime | None:
    """The last minute up to `until` with a tally of this kind; None if no tally by the minute is left."""
    wanted = [TALLIES.c.span == 60, TALLIES.c.source == source, TALLIES.c.kind == kind, TALLIES.c.at <= until]
    if detail is not None:
        wanted.append(TALLIES.c.detail == detail)
    found = select(TALLIES.c.at).where(*wanted).order_by(TALLIES.c.at.desc()).limit(1)
    at: datetime | None = connection.execute(found).scalar()
    return at


def details(connection: Connection, source: str, kind: str, after: datetime, until: datetime) -> list[RowMapping]:
    """Sum minutes and hours by detail, as rows of `detail`, `number`, `first` and `last`."""
    found = (
        select(
            TALLIES.c.detail,
            func.sum(TALLIES.c.number).label("number"),
            func.min(TALLIES.c.at).label("first"),
            func.max(TALLIES.c.at).label("last"),
        )
        .where(
            TALLIES.c.span.in_([int(MINUTE.total_seconds()), int(HOUR.total_seconds())]),
            TALLIES.c.source == source,
            TALLIES.c.kind == kind,
            TALLIES.c.at > after,
            TALLIES.c.at <= until,
        )
        .group_by(TALLIES.c.detail)
        .order_by(TALLIES.c.detail)
    )
    return list(connection.execute(found).mappings())


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
    rows = connection.execute(wanted)
    return [Tallied(at, source, kind, detail, int(number), amount) for at, source, kind, detail, number, amount in rows]


def beginning(moment: datetime, span: timedelta) -> datetime:
    """The beginning of the minute or hour that contains the moment."""
    return _EPOCH + (moment - _EPOCH) // span * span


# ── retention ─────────────────────────────────────────────────────────────────────────────────────────────────────


def prune(database: Database, now: datetime) -> int:
    """Sum up one old hour, or else drop a batch of expired hours; return the number of rows, 0 when none are left."""
    return retry_transaction(lambda: _sum_up(database, now) or _drop_hours(database, now))


def _sum_up(database: Database, now: datetime) -> int:
    """Replace the minutes of the oldest hour past their retention with one row for each kind."""
    minutes = TALLIES.c.span == int(MINUTE.total_seconds())
    oldest = select(TALLIES.c.at).where(minutes).order_by(TALLIES.c.at).limit(1)
    with database.read() as connection:
        first = connection.execute(oldest).scalar()
    if first is None or first >= beginning(now - MINUTES_KEPT, HOUR):
        return 0
    hour = beginning(first, HOUR)
    of_it: Sequence[ColumnElement[bool]] = (minutes, TALLIES.c.at >= hour, TALLIES.c.at < hour + HOUR)
    with database.write() as connection:
        columns = (TALLIES.c.source, TALLIES.c.kind, TALLIES.c.detail)
        sums = select(*columns, func.sum(TALLIES.c.number), func.sum(TALLIES.c.amount)).where(*of_it).group_by(*columns)
        rows = [
            {
                "span": int(HOUR.total_seconds()),
                "source": source,
                "kind": kind,
                "at": hour,
                "detail": detail,
                "process": "",
                "number": int(number),
                "amount": amount,
            }
            for source, kind, detail, number, amount in connection.execute(sums)
        ]
        insert_mappings(connection, TALLIES, rows, conflict=_ADD)
        return connection.execute(delete(TALLIES).where(*of_it)).rowcount


def _drop_hours(database: Database, now: datetime) -> int:
    hours = TALLIES.c.span == int(HOUR.total_seconds())
    expired = hours & (TALLIES.c.at < now - HOURS_KEPT)
    with database.read() as connection:
        oldest = select(TALLIES.c.at).where(expired).order_by(TALLIES.c.at).offset(HOURS_AT_ONCE).limit(1)
        if connection.execute(select(literal(1)).where(expired).limit(1)).scalar() is None:
            return 0
        beyond = connection.execute(oldest).scalar()
    with database.write() as connection:
        some = expired if beyond is None else expired & (TALLIES.c.at <= beyond)
        return connection.execute(delete(TALLIES).where(some)).rowcount
