"""Finds deliveries that can be replayed or tried now, and ids that are unknown."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime

from sqlalchemy import select

from receiver.database.database import Database
from receiver.inbox.tables import DELIVERIES, HAS_BODY, HAS_ENDED, State, in_state
from receiver.search.deliveries import among_ids, conditions_of
from receiver.search.filters import DeliveryFilter

#: Ids per query.
IDS_AT_ONCE = 500


def replayable_ids(database: Database, wanted: DeliveryFilter) -> Iterator[list[int]]:
    """The ids of deliveries that have ended and whose body has not expired, in pages, oldest first."""
    wanted_ones, last = conditions_of(wanted), 0
    while True:
        statement = select(DELIVERIES.c.id).where(*wanted_ones, DELIVERIES.c.id > last, HAS_ENDED, HAS_BODY)
        with database.read() as connection:
            ids = list(connection.execute(statement.order_by(DELIVERIES.c.id).limit(IDS_AT_ONCE)).scalars())
        if not ids:
            return
        yield ids
        last = ids[-1]


def waiting_ids(database: Database, wanted: DeliveryFilter, *, now: datetime, most: int) -> list[int]:
    """The ids of up to `most` of the deliveries that match and whose next attempt is due after `now`, in no order."""
    # Both values of `suspect`, so that the times are two ranges of the index.
    waits = (in_state(State.PENDING), DELIVERIES.c.suspect.in_([False, True]), DELIVERIES.c.due_at > now)
    found = select(DELIVERIES.c.id).where(*waits, *conditions_of(wanted)).limit(most)
    with database.read() as connection:
        return list(connection.execute(found).scalars())


def unknown_ids(database: Database, ids: Collection[int]) -> list[int]:
    """The ids that no delivery has, ascending."""
    storable = tuple(number for number in ids if number.bit_length() < 64)
    with database.read() as connection:
        found = connection.execute(select(DELIVERIES.c.id).where(among_ids(storable))).scalars().all()
    return sorted(set(ids) - set(found))
