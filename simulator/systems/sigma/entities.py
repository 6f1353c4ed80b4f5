"""Sigma PIM's records and variants: attribute values by alias and scope."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from simulator.rng import COLORS, SIZES, Rng
from simulator.systems.base import iso_milliseconds

#: The event types (Sigma docs, section "Available Events").
EVENTS = (
    "entity.created",
    "entity.updated",
    "entity.deleted",
    "entity.transition",
    "variant.created",
    "variant.updated",
    "variant.deleted",
)

#: `{alias: [{"scope": {…}, "value": …}, …]}`; the scope `{}` is the global one (docs/sources.md, Sigma PIM, RECORD).
Values = dict[str, list[dict[str, Any]]]


@dataclass(slots=True, kw_only=True)
class Variant:
    id: str
    values: Values
    level: int = 1


@dataclass(slots=True, kw_only=True)
class SigmaEntity:
    id: str
    schema: str
    state: str
    created_at: datetime
    updated_at: datetime
    created_by: str
    updated_by: str
    values: Values
    alive: bool = True
    variants: dict[str, Variant] = field(default_factory=dict)
    #: Ids of variants that were deleted and may come back.
    retired: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """Write a RECORD of `GET /records`. It has the id of the lifecycle state; webhooks have the state's name."""
        return {
            "id": self.id,
            "schemaId": self.schema,
            "lifecycleStateId": f"state-{self.state}",
            "createdAt": iso_milliseconds(self.created_at),
            "updatedAt": iso_milliseconds(self.updated_at),
            "createdBy": self.created_by,
            "updatedBy": self.updated_by,
            "values": self.values,
        }

    def variant_record(self, variant: Variant) -> dict[str, Any]:
        return {
            "id": variant.id,
            "entityId": self.id,
            "parentId": self.id,
            "level": variant.level,
            "values": variant.values,
        }


def is_gone(entity: SigmaEntity) -> bool:
    return not entity.alive


def has_variants(entity: SigmaEntity) -> bool:
    return entity.alive and bool(entity.variants)


def invent_values(rng: Rng, name: str) -> Values:
    currency = rng.choice(("EUR", "USD"))
    return {
        "sku": everywhere(rng.sku()),
        "name": [*everywhere(name), {"scope": {"dim-language": "seg-da"}, "value": f"{name} (da)"}],
        "price": everywhere(invent_price(rng, currency)),
        "currency": everywhere(currency),
        "description": everywhere(rng.sentence()),
        "color": everywhere(rng.choice(COLORS)),
    }


def invent_variant_values(rng: Rng) -> Values:
    return {
        "sku": everywhere(rng.sku()),
        "name": everywhere(rng.name()),
        "price": everywhere(rng.price()),
        "currency": everywhere("EUR"),
        "color": everywhere(rng.choice(COLORS)),
        "size": everywhere(rng.choice(SIZES)),
    }


def invent_price(rng: Rng, currency: str) -> Decimal | str | dict[str, str]:
    """Invent a price in one of the three forms of the attribute: a number, a text, or an amount with its currency."""
    price = rng.price()
    return rng.choice((price, str(price), {"amount": str(price), "currency": currency}))


def reinvent(rng: Rng, alias: str, old: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if alias == "name":
        name = rng.name()
        return [*everywhere(name), {"scope": {"dim-language": "seg-da"}, "value": f"{name} (da)"}]
    if alias == "price":
        value = old[0]["value"]
        return everywhere(invent_price(rng, value["currency"]) if isinstance(value, dict) else rng.price())
    if alias == "description":
        return everywhere(rng.sentence())
    return everywhere(f"{rng.choice(COLORS)} {rng.randrange(99)}")


def everywhere(value: Any) -> list[dict[str, Any]]:
    """Write an attribute with one value, in the global scope."""
    return [{"scope": {}, "value": value}]


def row_columns(values: Values, record: dict[str, Any]) -> dict[str, Any]:
    """Return the mirror's columns of a record: the values in the global scope, and the whole record as `data`."""
    price = values["price"][0]["value"]
    return {
        "sku": values["sku"][0]["value"],
        "name": values["name"][0]["value"],
        "price": Decimal(price["amount"] if isinstance(price, dict) else price),
        "currency": values["currency"][0]["value"],
        "data": {**record, "values": dict(values)},
    }
