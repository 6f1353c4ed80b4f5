"""Retention of tallies: sums up old minutes to hours, and drops old hours, in small batches."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import BigInteger, ColumnElement, Float, cast, delete, literal, select

from receiver.database.damage import damage_of
from receiver.database.database import Database
from receiver.database.errors import retry_transaction
from receiver.findings.counting import KindCount, TallyKey
from receiver.findings.tables import TALLIES
from receiver.findings.tallies import HOUR, HOURS_KEPT, MINUTE, MINUTES_KEPT, add, beginning

#: The number of rows of hours that one transaction drops.
HOURS_AT_ONCE = 2_000


def prune_tallies(database: Database, now: datetime) -> int:
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
    if damage_of(first) is not None:
        # Numbers of an unknown minute belong to no hour, and would be the oldest for ever.
        with database.write() as connection:
            return connection.execute(delete(TALLIES).where(minutes, TALLIES.c.at == first)).rowcount
    hour = beginning(first, HOUR)
    of_it: Sequence[ColumnElement[bool]] = (minutes, TALLIES.c.at >= hour, TALLIES.c.at < hour + HOUR)
    sums: dict[TallyKey, KindCount] = {}
    with database.write() as connection:
        # Only the transaction that deletes a minute adds it, because workers may sum up the same hour at the same time.
        minutes_of_it = connection.execute(delete(TALLIES).where(*of_it).returning(*_SUMMED)).all()
        for source, kind, detail, number, amount in minutes_of_it:
            key = TallyKey(source, kind, detail)
            so_far = sums.get(key, KindCount(0))
            sums[key] = KindCount(so_far.number + number, so_far.amount + amount)
        add(connection, "", sums, at=hour, span=HOUR)
    return len(minutes_of_it)


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
        return connection.execute(delete(TALLIES).where(some)).rowcount
