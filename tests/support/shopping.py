"""A small dialect of the tests' own, as a user would write it, and workers with a known jitter."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from pydantic import AwareDatetime, BaseModel
from serving import TIMEOUT

from handlers.catalog import Product, Variant
from receiver import Dialect, Envelope, Event, HmacSha256, Mirror
from receiver.database.database import Database
from receiver.dialects.sources import Source
from receiver.inbox.arrival import Arrival
from receiver.inbox.inbox import Inbox
from receiver.mirror.changes import after
from receiver.testing import Webhooks
from receiver.worker.worker import Worker

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


class Body(BaseModel):
    type: str
    id: str
    timestamp: AwareDatetime
    data: Any = None


class Named(BaseModel):
    name: str


def read_body(body: Body) -> Envelope:
    return Envelope(event_type=body.type, entity=("product", body.id), occurred_at=body.timestamp, data=body.data)


def new_shop() -> Dialect:
    """Make a dialect `shop` that keeps products and variants; each test adds the handlers that it needs."""
    shop = Dialect("shop", verify=HmacSha256(header="X-Webhook-Signature"))
    shop.envelope(read_body)

    @shop.on("product.updated")
    def upsert(event: Event[Named], mirror: Mirror) -> None:
        mirror.upsert(Product, event.entity_id, name=event.data.name)

    @shop.on("product.deleted")
    def deactivate(event: Event[Any], mirror: Mirror) -> None:
        mirror.deactivate(Product, event.entity_id)

    @shop.on("variant.updated")
    def upsert_variant(event: Event[Any], mirror: Mirror) -> None:
        mirror.upsert(Variant, event.entity_id, parent=event.data["parent"])

    return shop


def named(name: str = "Lamp") -> dict[str, str]:
    return {"name": name}


def sources_of(kit: Webhooks) -> Mapping[str, Source]:
    return {"shop": kit.source("shop")}


def new_worker(
    kit: Webhooks,
    *,
    inbox: Inbox | None = None,
    sources: Mapping[str, Source] | None = None,
    jitter: float = 0.5,
    **options: Any,
) -> Worker:
    """Make another worker on the kit's clock, for the shop by default. Each wait is `jitter` times its limit."""
    return Worker(inbox or kit.inbox, sources or sources_of(kit), clock=kit.now, jitter=lambda: jitter, **options)


def inbox_of_another_process(kit: Webhooks) -> Inbox:
    """Open the same database with separate connections and locks. The caller closes its database."""
    return Inbox(Database(url_of(kit)))


def url_of(kit: Webhooks) -> str:
    return kit.database.engine.url.render_as_string(hide_password=False)


def drain(worker: Worker) -> int:
    return sum(iter(worker.work, 0))


def tell_all(kit: Webhooks, external_ids: Iterable[str], *, at: datetime) -> None:
    """Make a row of each id: the shop's updates are accepted in one transaction, without requests, and processed."""
    source = kit.source("shop")
    arrivals = []
    for external_id in external_ids:
        body = source.dialect.write("product.updated", external_id, at=at, data=named())
        arrival = Arrival(source="shop", body=body, plain=None, headers={}, received_at=kit.now(), secret=0)
        arrival.know(source.read(body))
        arrivals.append(arrival)
    kit.inbox.accept(arrivals)
    kit.drain()


def feed(kit: Webhooks) -> list[tuple[str, str]]:
    """List the operation and the row of each change, oldest first."""
    return [(change["operation"], change["external_id"]) for change in after(kit.database, 0, limit=1_000)]


def states(kit: Webhooks) -> list[str]:
    """List the states of all deliveries in the order of arrival."""
    return [delivery["state"] for delivery in kit.deliveries()]


@contextmanager
def running(worker: Worker) -> Iterator[None]:
    """Run the worker in a thread, as the server does."""
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join(TIMEOUT)
        assert not thread.is_alive()
