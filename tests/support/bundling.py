"""A sender that posts several events in one body, and a dialect for it as a user would write one."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from pydantic import AwareDatetime, BaseModel
from shopping import NOON, Named

from handlers.catalog import Product
from receiver import Dialect, Envelope, Event, HmacSha256, Mirror, each


class Item(BaseModel):
    id: str
    at: AwareDatetime
    type: str = "product.updated"
    name: str | None = None
    event: str | None = None


def read_item(item: Item) -> Envelope:
    return Envelope(
        event_type=item.type,
        entity=("product", item.id),
        occurred_at=item.at,
        dedup_key=item.event,
        data={"name": item.name},
    )


def new_batcher() -> Dialect:
    """Make a dialect `shop` whose bodies are `{"events": […]}`."""
    shop = Dialect("shop", verify=HmacSha256(header="X-Webhook-Signature"))

    @shop.envelope
    def read(body: dict) -> list[Envelope]:
        return each(body["events"], read_item)

    @shop.on("product.updated")
    def upsert(event: Event[Named], mirror: Mirror) -> None:
        mirror.upsert(Product, event.entity_id, name=event.data.name)

    @shop.on("product.deleted")
    def deactivate(event: Event[Any], mirror: Mirror) -> None:
        mirror.deactivate(Product, event.entity_id)

    return shop


def item(number: int | str, *, at: datetime = NOON, **more: Any) -> dict[str, Any]:
    return {"id": f"A{number}", "at": at.isoformat(), "name": f"Lamp {number}", **more}


def bundle(*items: Any) -> bytes:
    return json.dumps({"events": list(items)}).encode()
