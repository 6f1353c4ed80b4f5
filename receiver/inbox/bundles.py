"""Bundles: bodies with several events. Each item becomes a delivery; the body is kept once, with the first item.

The delivery of an item therefore refers to the body and to the item's position in it (docs/decisions/0040).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice

import structlog
from sqlalchemy import Connection, bindparam, update

from receiver.database.errors import is_fault_of_values
from receiver.envelope import Bundle, unread_identity
from receiver.errors import Unreadable
from receiver.inbox.arrival import Accepted, Arrival
from receiver.inbox.duplicates import resolve_duplicates
from receiver.inbox.ids import DeliveryIds
from receiver.inbox.leases import Claimed
from receiver.inbox.tables import DELIVERIES
from receiver.logs.repeats import Repeats
from receiver.logs.safe_text import told

log = Repeats(structlog.get_logger(__name__))

#: The reason for which an authentic body without events is ignored.
NO_EVENTS = "The body holds no events."


def spread(arrival: Arrival, bundle: Bundle) -> None:
    """Turn the arrival into that of the first item, and add arrivals of the others. An unreadable item is dead."""
    if not bundle.items:
        arrival.ignore(NO_EVENTS)
        arrival.dedup_key, arrival.fingerprint = unread_identity(arrival.verified)
        return
    arrival.item = 0
    arrival.others = [_other(arrival, place) for place in range(1, len(bundle.items))]
    body = hashlib.sha256(arrival.verified).digest()
    for each, item in zip(arrival.each(), bundle.items, strict=True):
        if isinstance(item, Unreadable):
            each.give_up_item(told(item), body)
        else:
            each.know_item(item, body)


def draw_ids(arrivals: Sequence[Arrival], ids: DeliveryIds) -> Sequence[Arrival]:
    """Give every arrival and item without an id an id. Returns all of them in the order of their ids."""
    items = [each for arrival in arrivals for each in (arrival, *arrival.others)]
    without = [each for each in items if not each.id]
    if without:
        for each, drawn in zip(without, ids.draw_many(len(without)), strict=True):
            each.id = drawn
        for arrival in arrivals:
            for other in arrival.others:
                other.body_id = arrival.id
    return items


def gathered(arrivals: Sequence[Arrival], answers: Sequence[Accepted]) -> list[Accepted]:
    """Combine the answers to all items into one answer for each body."""
    left = iter(answers)
    return [next(left) if arrival.item is None else _answer(arrival, left) for arrival in arrivals]


def resolve_one_by_one(connection: Connection, items: Sequence[Arrival]) -> list[Accepted]:
    """Do the same as `resolve_duplicates` item by item, so that only the items that the database refuses are dead.

    Raises the database's error if it refuses an item even without the values read from it.
    """
    return [_resolve_one(connection, item) for item in items]


def _resolve_one(connection: Connection, item: Arrival) -> Accepted:
    try:
        with connection.begin_nested():
            return resolve_duplicates(connection, [item])[0]
    except Exception as error:
        if not is_fault_of_values(error):
            raise
        item.keep_item_alone(f"The database refused its content: {told(error)}")
        log.warning(
            "kept an event that the database refuses", about={"source": item.source}, item=item.item, reason=item.reason
        )
    return resolve_duplicates(connection, [item])[0]


def unfolded(connection: Connection, delivery: Claimed, bundle: Bundle) -> Arrival | None:
    """Make the arrivals of all items from a delivery that was kept before its body could be read.

    The delivery becomes that of the first item; None if it was that already.
    """
    assert delivery.plain is not None
    whole = connection.execute(_BECOME_FIRST, {"of": delivery.id}).first()
    if whole is None:
        return None
    first = Arrival(
        source=delivery.source,
        body=delivery.plain,
        plain=None,
        headers={},
        received_at=delivery.received_at,
        secret=whole.secret,
        id=delivery.id,
    )
    spread(first, bundle)
    return first


_BECOME_FIRST = (
    update(DELIVERIES)
    .where(DELIVERIES.c.id == bindparam("of"), DELIVERIES.c.item.is_(None))
    .values(item=0)
    .returning(DELIVERIES.c.secret)
)


def _answer(arrival: Arrival, answers: Iterator[Accepted]) -> Accepted:
    items = list(islice(answers, 1 + len(arrival.others)))
    is_new = any(item.status == "accepted" for item in items)
    return Accepted("accepted" if is_new else "duplicate", items[0].delivery_id, items)


def _other(first: Arrival, place: int) -> Arrival:
    return Arrival(
        source=first.source,
        body=first.body,
        plain=first.plain,
        headers=first.headers,
        received_at=first.received_at,
        secret=first.secret,
        item=place,
    )
