"""Arrivals that the event loop has made ready are stored like those that the thread of the group commit makes ready."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
from bundling import bundle, item, new_batcher
from sqlalchemy import select

from receiver.database.database import Database
from receiver.dialects.sources import Source, build_source
from receiver.inbox.arrival import Arrival
from receiver.inbox.inbox import Inbox
from receiver.inbox.tables import BODIES, BODY_ID, DELIVERIES
from receiver.ingest.admission import Request, admit
from receiver.settings.settings import SourceSettings
from receiver.verify.request import WebhookRequest

NOON = datetime(2026, 3, 8, 12, tzinfo=UTC)


@pytest.fixture
def inbox(mirror_url):
    with closing(Database(mirror_url)) as database:
        yield Inbox(database)


@pytest.fixture
def arriving() -> Callable[..., Arrival]:
    sources: dict[str, Source] = {}
    dialects = {"shop": new_batcher()}

    def make(name: str, *items: Any) -> Arrival:
        settings = SourceSettings(name=name, dialect="shop", secrets=["secret"])
        source = sources.setdefault(name, build_source(settings, dialects))
        body, headers = source.dialect.verifier.sign(WebhookRequest(bundle(*items)), source.credentials)
        pairs = [(header.lower().encode(), value.encode()) for header, value in headers.items()]
        [arrival] = admit([Request(source, pairs, body)], now=NOON)
        assert isinstance(arrival, Arrival)
        return arrival

    return make


def alone(arrival: Arrival) -> Arrival:
    """Turn the arrival of a bundle with one item into that of a body with one event."""
    arrival.item = None
    return arrival


def batch(arriving: Callable[..., Arrival], source: str) -> list[Arrival]:
    """Bodies with one event, with several, with one of several, and without a readable one."""
    return [
        alone(arriving(source, item(1))),
        arriving(source, item(2), {"unreadable": True}, item(3)),
        arriving(source, item(4, type="product.praised")),
        arriving(source),
        alone(arriving(source, item(5, event="a" * 40))),
    ]


def kept(inbox: Inbox, source: str) -> list[tuple[Any, ...]]:
    """Return everything that is kept of a source but the ids, in the order of the ids."""
    own = [column for column in DELIVERIES.c if column.name not in ("id", "source", "body_id")]
    found = (
        select(*own, BODIES.c.body, BODIES.c.plain, BODIES.c.headers)
        .outerjoin(BODIES, BODIES.c.delivery_id == BODY_ID)
        .where(DELIVERIES.c.source == source)
        .order_by(DELIVERIES.c.id)
    )
    with inbox.database.read() as connection:
        return [tuple(row) for row in connection.execute(found)]


def test_a_mixed_batch_is_stored_in_the_same_way_whether_it_was_made_ready_or_not(inbox, arriving):
    unready, ready = batch(arriving, "unready"), batch(arriving, "ready")
    inbox.accept(unready)
    inbox.prepare(ready)
    assert all(each.row is not None for arrival in ready for each in arrival.each())
    inbox.accept(ready)
    assert len(kept(inbox, "ready")) == 7
    assert kept(inbox, "ready") == kept(inbox, "unready")


def test_an_arrival_that_changes_afterwards_is_stored_as_it_is_then(inbox, arriving):
    arrival = arriving("shop", item(1), item(2))
    inbox.prepare([arrival])
    arrival.keep_body_alone("The database refused its content.")
    inbox.accept([arrival])
    [(event_type, *_)] = kept(inbox, "shop")
    assert event_type is None


def test_an_arrival_whose_row_cannot_be_made_is_left_to_the_thread(inbox, arriving):
    arrival = alone(arriving("shop", item(1)))
    arrival.headers = {"a": object()}
    inbox.prepare([arrival])
    assert arrival.row is None
    with pytest.raises(TypeError):
        inbox.accept([arrival])
