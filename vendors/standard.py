"""Any sender of Standard Webhooks whose events are about products and variants (docs/senders/standard.md).

The specification says how a body is signed, and that it has `type`, `timestamp` and `data`. The sender decides about
the members of `data`: if yours differ, copy this module and change it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from handlers.catalog import Product, Variant
from handlers.entities import entity_of
from handlers.values import Id, Price, Sent, ShortText, Text
from receiver import Dialect, Envelope, Event, Mirror
from receiver.senders import StandardWebhooks
from vendors.values import member, moment_at, number_or_text, text_at

standard = Dialect("standard", verify=StandardWebhooks())

TABLES = {"product": Product, "variant": Variant}


@standard.envelope
def read(body: dict[str, Any], signed: Mapping[str, str]) -> Envelope:
    """Read a body. `timestamp` is the time of change; the signed header of that name has the time of sending."""
    event_type = text_at(body, "type")
    kind = event_type.partition(".")[0]
    entity = None
    if kind in TABLES:
        entity = entity_of(standard, event_type, kind, body.get("data"), ("id",), what="data")
    return Envelope(
        event_type=event_type,
        entity=entity,
        occurred_at=moment_at(body, "timestamp"),
        data=member(body, "data"),
        dedup_key=signed.get("webhook-id"),
    )


@standard.compose
def write(event_type: str, entity_id: str, at: datetime, data: Any) -> dict[str, Any]:
    return {"type": event_type, "timestamp": at, "data": {"id": number_or_text(entity_id), **(data or {})}}


class ProductData(Sent):
    name: Text = None
    sku: ShortText = None
    price: Price = None
    currency: Text = None
    status: Text = None

    def columns(self) -> dict[str, Any]:
        return self.news(name="name", sku="sku", price="price", currency="currency", lifecycle_state="status")


class VariantData(ProductData):
    product_id: Id | None = None


@standard.on("product.created", "product.updated")
def upsert_product(event: Event[ProductData], mirror: Mirror) -> None:
    mirror.upsert(Product, event.entity_id, **event.data.columns(), data=event.data.whole)


@standard.on("variant.created", "variant.updated")
def upsert_variant(event: Event[VariantData], mirror: Mirror) -> None:
    parent = event.data.news(parent="product_id")
    mirror.upsert(Variant, event.entity_id, **parent, **event.data.columns(), data=event.data.whole)


@standard.on("product.deleted", "variant.deleted")
def deactivate(event: Event[Any], mirror: Mirror) -> None:
    mirror.deactivate(TABLES[event.entity_kind], event.entity_id)
