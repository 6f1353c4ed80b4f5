"""The scalar properties of Indexed PIM's entities, kind by kind."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from simulator.chance import Chance
from simulator.systems.base import iso_seconds

if TYPE_CHECKING:
    from simulator.systems.indexed import Entity

VERBS = ("created", "updated", "deleted")

#: The kinds of a history with their weights (Indexed docs, section "Available event families"). The documents name
#: an `app` family too: its entity would stand under the same key as the app of the envelope, so no history uses it.
#: How two-word names are spelled is not published; snake case is a guess.
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

#: The fixed list from which a webhook record takes one (Indexed docs, section "Available event families").
EVENTS = tuple(f"{kind}.{verb}" for kind in (*KINDS, "app") for verb in VERBS)

#: The app modules that have webhooks of their own, by external id (Indexed docs, section "Setup flow", step 1).
APPS = {"app_products": "Products", "app_orders": "Orders", "app_inventory": "Inventory", "app_pricing": "Pricing"}

#: What a kind has besides a name and its times. Where a name is not usual, the kind has a title or a number.
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

INVENTIONS: dict[str, Callable[[Chance], Any]] = {
    "name": Chance.name,
    "title": Chance.name,
    "sku": Chance.sku,
    "description": lambda chance: None if chance.happens(0.2) else chance.sentence(),
    "price": lambda chance: None if chance.happens(0.05) else chance.choice((chance.price(), str(chance.price(3)))),
    "total": Chance.price,
    "currency": lambda chance: chance.choice(("EUR", "USD", "DKK")),
    "status": lambda chance: chance.choice(("draft", "active", "discontinued")),
    "stock": lambda chance: chance.randrange(500),
    "position": lambda chance: chance.randrange(100),
    "taxable": lambda chance: chance.happens(0.5),
    "url": lambda chance: f"https://media.example.com/{chance.hexadecimal(8)}.jpg",
    "size": lambda chance: chance.randrange(1_000_000),
    "number": lambda chance: f"SO-{chance.randrange(100_000):05d}",
    "code": lambda chance: chance.hexadecimal(4).upper(),
}

#: Properties that stay as they were created.
FIXED = frozenset({"sku", "code", "number", "createdAt", "updatedAt"})


def scalars(chance: Chance, kind: str, at: datetime) -> dict[str, Any]:
    """The properties of a new entity."""
    names = PROPERTIES.get(kind, ("name", "description"))
    invented = {name: INVENTIONS[name](chance) for name in names}
    return {**invented, "createdAt": iso_seconds(at), "updatedAt": iso_seconds(at)}


def reinvented(chance: Chance, old: dict[str, Any], at: datetime) -> dict[str, Any]:
    """New values for some of the properties."""
    names = chance.some([name for name in old if name not in FIXED])
    return {**{name: INVENTIONS[name](chance) for name in names}, "updatedAt": iso_seconds(at)}


def reflect(entity: Entity) -> dict[str, Any]:
    return {"id": entity.id, "externalId": entity.external_id, **entity.scalars}
