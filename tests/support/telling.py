"""A dialect whose events can set any columns, and a shop that sends such events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import AwareDatetime, BaseModel

from handlers.catalog import Product, Variant
from receiver import Dialect, Envelope, Event, HmacSha256, Mirror, Patch
from receiver.mirror import changes
from receiver.testing import Webhooks

NOON = datetime(2026, 3, 8, 12, tzinfo=UTC)
TABLES = {"product": Product, "variant": Variant}

shop = Dialect("shop", verify=HmacSha256(header="X-Webhook-Signature"))


class Body(BaseModel):
    type: str
    id: str
    timestamp: AwareDatetime
    data: Any = None


@shop.envelope
def read(body: Body) -> Envelope:
    kind = body.type.partition(".")[0]
    return Envelope(event_type=body.type, entity=(kind, body.id), occurred_at=body.timestamp, data=body.data)


@shop.on("*.updated")
def update(event: Event[Any], mirror: Mirror) -> None:
    mirror.upsert(TABLES[event.entity_kind], event.entity_id, **(event.data or {}))


@shop.on("*.patched")
def patch(event: Event[Any], mirror: Mirror) -> None:
    mirror.upsert(TABLES[event.entity_kind], event.entity_id, data=Patch(event.data))


@shop.on("*.deleted")
def delete(event: Event[Any], mirror: Mirror) -> None:
    mirror.deactivate(TABLES[event.entity_kind], event.entity_id)


@shop.on("product.snapshot")
def take_snapshot(event: Event[Any], mirror: Mirror) -> None:
    """Take `data` as the complete list of the product's variants."""
    mirror.upsert(Product, event.entity_id)
    for variant in event.data:
        mirror.upsert(Variant, variant, parent=event.entity_id)
    mirror.keep_only(Variant, event.data, parent=event.entity_id)


class Shop:
    """A shop that sends events, each dated `second` seconds after noon."""

    def __init__(self, kit: Webhooks, *, one_by_one: bool) -> None:
        self.kit = kit
        self.one_by_one = one_by_one

    def tell(self, event_type: str, entity: str, second: float = 0, data: Any = None, *, source: str = "shop") -> str:
        answer = self.kit.send(source, event_type, id=entity, at=NOON + timedelta(seconds=second), data=data)
        if self.one_by_one:
            self.kit.drain()
        return answer.delivery

    def product(self, entity: str = "A1", **source: str) -> Any:
        self.kit.drain()
        return self.kit.row(Product, entity, **source)

    def variant(self, entity: str = "V1") -> Any:
        self.kit.drain()
        return self.kit.row(Variant, entity)

    def feed(self) -> list[Any]:
        self.kit.drain()
        return list(changes.after(self.kit.database, 0, limit=1_000))

    def outcome(self, delivery: str) -> str:
        self.kit.drain()
        return str(self.kit.delivery(delivery)["outcome"])
