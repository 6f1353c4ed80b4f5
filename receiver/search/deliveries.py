"""Deliveries as they stand in the inbox: lists of them, one with all that is kept about it, and ids of many."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import RowMapping, Select, exists, literal, select, text, union_all

from receiver.database.database import Database
from receiver.database.pages import LARGEST_PAGE
from receiver.inbox.tables import ATTEMPTS, BODIES, DELIVERIES, HAS_ENDED, State, in_state
from receiver.mirror.rows import mirror_tables, sql_table
from receiver.search.filters import DeliveryFilter, filtered

#: Ids of one page, where nobody looks at pages.
IDS_AT_ONCE = 500


class KeptDelivery(NamedTuple):
    """One delivery with all that is kept about it."""

    #: The columns of `deliveries`, and of `bodies`: null where the body has expired.
    row: RowMapping
    #: The failed attempts, oldest first.
    attempts: Sequence[RowMapping]


def deliveries(database: Database, wanted: DeliveryFilter, *, before: int | None, limit: int) -> Sequence[RowMapping]:
    """Deliveries, newest first, older than the id `before`."""
    with database.read() as connection:
        return connection.execute(select_deliveries(wanted, before=before, limit=limit)).mappings().all()


def select_deliveries(wanted: DeliveryFilter, *, before: int | None, limit: int) -> Select[Any]:
    """Selects deliveries, newest first, older than the id `before`."""
    found = filtered(select(DELIVERIES), wanted)
    if before is not None:
        found = found.where(DELIVERIES.c.id < before)
    if wanted.entity is not None:
        return _about_entity(found, limit)
    return found.order_by(DELIVERIES.c.id.desc()).limit(limit)


def _about_entity(found: Select[Any], limit: int) -> Select[Any]:
    """The newest of the deliveries about one entity: an index knows those that have ended, and few have not."""
    ended = found.where(text("deliveries.ended_at IS NOT NULL")).order_by(DELIVERIES.c.id.desc()).limit(limit)
    still_open = [found.where(in_state(state)) for state in (State.PENDING, State.PROCESSING)]
    either = union_all(select(ended.subquery()), *still_open).subquery()
    # Not the plain column, in whose order SQLite would go through the whole table to find the few.
    return select(either).order_by((either.c.id + 0).desc()).limit(limit)


def delivery(database: Database, delivery_id: int) -> KeptDelivery | None:
    """One delivery with its body, headers and failed attempts; None if there is none of this id."""
    found = select(DELIVERIES, BODIES.c.body, BODIES.c.plain, BODIES.c.headers)
    found = found.outerjoin(BODIES, BODIES.c.delivery_id == DELIVERIES.c.id).where(DELIVERIES.c.id == delivery_id)
    attempts = select(ATTEMPTS).where(ATTEMPTS.c.delivery_id == delivery_id).order_by(ATTEMPTS.c.ended_at.desc())
    with database.read() as connection:
        row = connection.execute(found).mappings().first()
        if row is None:
            return None
        failed = connection.execute(attempts.limit(LARGEST_PAGE)).mappings().all()[::-1]
    return KeptDelivery(row, failed)


def replayable_ids(database: Database, wanted: DeliveryFilter) -> Iterator[list[int]]:
    """The ids of deliveries that have ended and whose body has not expired, in pages, oldest first."""
    has_body = exists().where(BODIES.c.delivery_id == DELIVERIES.c.id)
    last = 0
    while True:
        statement = filtered(select(DELIVERIES.c.id), wanted).where(DELIVERIES.c.id > last, HAS_ENDED, has_body)
        with database.read() as connection:
            ids = list(connection.execute(statement.order_by(DELIVERIES.c.id).limit(IDS_AT_ONCE)).scalars())
        if not ids:
            return
        yield ids
        last = ids[-1]


def unknown_ids(database: Database, ids: Collection[int]) -> list[int]:
    """Those that are no deliveries, in the order of their numbers."""
    storable = tuple(number for number in ids if number.bit_length() < 64)
    with database.read() as connection:
        found = connection.execute(filtered(select(DELIVERIES.c.id), DeliveryFilter(ids=storable))).scalars().all()
    return sorted(set(ids) - set(found))


def is_source(database: Database, name: str) -> bool:
    """Whether anything that is stored came from a source of this name, one that has left the settings included."""
    tables = [DELIVERIES, *map(sql_table, mirror_tables())]
    with database.read() as connection:
        return any(
            connection.execute(select(literal(1)).where(table.c.source == name).limit(1)).first() for table in tables
        )
