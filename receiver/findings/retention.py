"""Retention of tallies: sums up old minutes to hours, and drops old hours, in small batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial

from sqlalchemy import BigInteger, ColumnElement, Float, cast, delete, literal, select

from receiver.database.damage import damage_of
from receiver.database.database import Database
from receiver.database.errors import retry_transaction
from receiver.findings.counting import MISSPELT_SOURCE, UNKNOWN_SOURCE, KindCount, TallyKey
from receiver.findings.tables import TALLIES
from receiver.findings.tallies import HOUR, HOURS_KEPT, MINUTE, MINUTES_KEPT, add, beginning
from receiver.metrics.few_names import OTHERS

#: The kinds whose details are names that strangers choose, and the most of these that an hour of a source has: others
#: could fill the table with new ones, a few each minute.
OF_STRANGERS, MOST_NAMES = (UNKNOWN_SOURCE, MISSPELT_SOURCE), 10

#: The number of rows of hours that one transaction drops.
HOURS_AT_ONCE = 2_000

#: The most hours in a row that other processes sum up or drop first, before a batch ends without any.
MOST_TAKEN = 100


def prune_tallies(database: Database, now: datetime) -> int:
    """Sum up one old hour, or else drop a batch of expired hours; return the number of rows, 0 when none are left."""
    for _ in range(MOST_TAKEN):
        first = retry_transaction(lambda: _oldest_minute(database, now))
        if first is None:
            break
        # Another process may have summed up this hour meanwhile.
        summed = retry_transaction(partial(_sum_up, database, first))
        if summed:
            return summed
    return retry_transaction(lambda: _drop_hours(database, now))


def _oldest_minute(database: Database, now: datetime) -> datetime | None:
    """The oldest minute, if it is past its retention; None otherwise."""
    with database.read() as connection:
        first: datetime | None = connection.execute(_OLDEST).scalar()
    return None if first is None or first >= beginning(now - MINUTES_KEPT, HOUR) else first


def _sum_up(database: Database, first: datetime) -> int:
    """Replace the minutes of the hour of this minute with one row for each kind."""
    if damage_of(first) is not None:
        # Numbers of an unknown minute belong to no hour, and would be the oldest for ever.
        with database.write() as connection:
            return connection.execute(delete(TALLIES).where(_MINUTES, TALLIES.c.at == first)).rowcount
    hour = beginning(first, HOUR)
    of_it: Sequence[ColumnElement[bool]] = (_MINUTES, TALLIES.c.at >= hour, TALLIES.c.at < hour + HOUR)
    sums: dict[TallyKey, KindCount] = {}
    with database.write() as connection:
        # Only the transaction that deletes a minute adds it, because workers may sum up the same hour at the same time.
        minutes_of_it = connection.execute(delete(TALLIES).where(*of_it).returning(*_SUMMED)).all()
        for source, kind, detail, number, amount in minutes_of_it:
            key = TallyKey(source, kind, detail)
            so_far = sums.get(key, KindCount(0))
            sums[key] = KindCount(so_far.number + number, so_far.amount + amount)
        add(connection, "", _with_few_names(sums), at=hour, span=HOUR)
    return len(minutes_of_it)


def _with_few_names(sums: Mapping[TallyKey, KindCount]) -> dict[TallyKey, KindCount]:
    """The same sums, with the names that strangers choose counted together beyond the most frequent ones."""
    kept: dict[TallyKey, KindCount] = {}
    so_far: Counter[tuple[str, str]] = Counter()
    for key, count in sorted(sums.items(), key=lambda pair: -pair[1].number):
        if key.kind in OF_STRANGERS:
            so_far[key.source, key.kind] += 1
            if so_far[key.source, key.kind] > MOST_NAMES:
                key = key._replace(detail=OTHERS)
        before = kept.get(key, KindCount(0))
        kept[key] = KindCount(before.number + count.number, before.amount + count.amount)
    return kept


_MINUTES = TALLIES.c.span == int(MINUTE.total_seconds())

_OLDEST = select(TALLIES.c.at).where(_MINUTES).order_by(TALLIES.c.at).limit(1)

#: The columns of a minute that belong to its hour. SQLite may hold text in place of a number, which casts as 0.
_SUMMED = (
    *(TALLIES.c.source, TALLIES.c.kind, TALLIES.c.detail),
    *(cast(TALLIES.c.number, BigInteger), cast(TALLIES.c.amount, Float)),
)


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
        dropped = connection.execute(delete(TALLIES).where(some)).rowcount
    # Another process may have dropped this batch meanwhile, and others may be left.
    return dropped if beyond is None else max(dropped, 1)
