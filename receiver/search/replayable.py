"""Finds deliveries that can be replayed, and ids that are unknown."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from sqlalchemy import select

from receiver.database.database import Database
from receiver.inbox.tables import DELIVERIES, HAS_BODY, HAS_ENDED
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


def unknown_ids(database: Database, ids: Collection[int]) -> list[int]:
    """The ids that no delivery has, ascending."""
    storable = tuple(number for number in ids if number.bit_length() < 64)
    with database.read() as connection:
        found = connection.execute(select(DELIVERIES.c.id).where(among_ids(storable))).scalars().all()
    return sorted(set(ids) - set(found))
