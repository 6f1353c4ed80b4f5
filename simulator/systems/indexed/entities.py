"""Indexed PIM's entities: their kinds, and the scalar properties of each kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from simulator.oracle import Key
from simulator.rng import Rng
from simulator.systems.base import iso_seconds

#: The mirror's table for each kind. Any other kind is in the table records, with the kind in front of the id.
TABLES = {"product": "products", "category": "categories", "product_group": "groups"}

VERBS = ("created", "updated", "deleted")

#: The kinds of a history with their weights (Indexed docs, section "Available event families"). The docs also name an
#: `app` family, but its entity would have the same key in the body as the app that sends the webhook, so histories do
#: not use it. The spelling of two-word names is not published; snake case is a guess.
KINDS = {
    "product": 50,
    "category": 8,
    "product_group": 6,
    "brand": 4,
    "supplier": 4,
    "property_group": 2,
    "property": 4,
    "media": 4,
    "file": 2,
    "order": 6,
    "customer": 4,
    "customer_group": 2,
    "pricing_rule": 3,
    "payment_term": 1,
    "currency": 1,
    "unit": 1,
    "language": 1,
}

#: The events from which a webhook record takes one (Indexed docs, section "Available event families").
EVENTS = tuple(f"{kind}.{verb}" for kind in (*KINDS, "app") for verb in VERBS)

#: The app modules that have webhooks of their own, by external id (Indexed docs, section "Setup flow", step 1).
APPS = {"app_products": "Products", "app_orders": "Orders", "app_inventory": "Inventory", "app_pricing": "Pricing"}

#: The properties of a kind, without its times. A kind that is missing here has a name and a description.
PROPERTIES: dict[str, tuple[str, ...]] = {
    "product": ("name", "sku", "description", "price", "currency", "status", "stock", "taxable"),
    "category": ("name", "description", "position"),
    "media": ("title", "url", "size"),
    "file": ("title", "url", "size"),
    "order": ("number", "total", "status"),
    "pricing_rule": ("name", "price", "currency", "status"),
    "currency": ("name", "code"),
    "language": ("name", "code"),
    "unit": ("name", "code"),
}

INVENTIONS: dict[str, Callable[[Rng], Any]] = {
    "name": Rng.name,
    "title": Rng.name,
    "sku": Rng.sku,
    "description": lambda rng: None if rng.happens(0.2) else rng.sentence(),
    "price": lambda rng: None if rng.happens(0.05) else rng.choice((rng.price(), str(rng.price(3)))),
    "total": Rng.price,
    "currency": lambda rng: rng.choice(("EUR", "USD", "DKK")),
    "status": lambda rng: rng.choice(("draft", "active", "discontinued")),
    "stock": lambda rng: rng.randrange(500),
    "position": lambda rng: rng.randrange(100),
    "taxable": lambda rng: rng.happens(0.5),
    "url": lambda rng: f"https://media.example.com/{rng.hexadecimal(8)}.jpg",
    "size": lambda rng: rng.randrange(1_000_000),
    "number": lambda rng: f"SO-{rng.randrange(100_000):05d}",
    "code": lambda rng: rng.hexadecimal(4).upper(),
}

#: Properties that an edit never changes.
FIXED = frozenset({"sku", "code", "number", "createdAt", "updatedAt"})


@dataclass(slots=True, kw_only=True)
class IndexedEntity:
    kind: str
    external_id: str
    #: The database id. An entity that is created again gets a new one.
    id: int
    scalars: dict[str, Any]
    #: The external id of the category it belongs to, or of its parent category.
    relation: str | None = None
    alive: bool = True

    @property
    def family(self) -> str:
        return f"{self.kind}:{self.external_id}"

    @property
    def key(self) -> Key:
        table = TABLES.get(self.kind)
        return (table, self.external_id) if table else ("records", self.family)


def scalars(rng: Rng, kind: str, at: datetime) -> dict[str, Any]:
    """Invent the properties of a new entity."""
    names = PROPERTIES.get(kind, ("name", "description"))
    invented = {name: INVENTIONS[name](rng) for name in names}
    return {**invented, "createdAt": iso_seconds(at), "updatedAt": iso_seconds(at)}


def reinvented(rng: Rng, old: dict[str, Any], at: datetime) -> dict[str, Any]:
    """Invent new values for some of the properties."""
    names = rng.some([name for name in old if name not in FIXED])
    return {**{name: INVENTIONS[name](rng) for name in names}, "updatedAt": iso_seconds(at)}


def reflect(entity: IndexedEntity) -> dict[str, Any]:
    return {"id": entity.id, "externalId": entity.external_id, **entity.scalars}
