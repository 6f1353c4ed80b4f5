"""sticky.io's products, bundles and variants, in the shapes of its webhooks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from simulator.rng import COLORS, SIZES, Rng

#: Product webhook guide, section "Understanding the Payload": Eastern time, daylight saving included.
EASTERN = ZoneInfo("America/New_York")

VERTICALS = ((1, "Art, Photo & Music"), (2, "Home"), (3, "Sports"))
CATEGORIES = ((5, "Magazine", "Mag01"), (6, "Outdoor", "Out01"), (7, "Office", ""))


def eastern(moment: datetime) -> datetime:
    return moment.astimezone(EASTERN)


@dataclass(slots=True, kw_only=True)
class Variant:
    id: int
    sku: str
    price: Decimal
    quantity: int
    weight: int
    color: str
    size: str
    created_at: datetime
    updated_at: datetime

    def listed(self) -> dict[str, Any]:
        """Write the variant as a part of its product's snapshot."""
        return {
            "id": self.id,
            "price": str(self.price),
            "quantity": self.quantity,
            "weight": self.weight,
            "sku_num": self.sku,
            "attributes": [
                attribute(self.id * 2, 8, "color", COLORS.index(self.color) + 1, self.color),
                attribute(self.id * 2 + 1, 11, "size", SIZES.index(self.size) + 20, self.size),
            ],
            "images": [],
        }

    def event_object(self, product: int) -> dict[str, Any]:
        """Write the variant for its own events. Their shape is not published: `listed` with product id and times."""
        times = {
            "created_at": eastern(self.created_at).isoformat(timespec="seconds"),
            "updated_at": eastern(self.updated_at).isoformat(timespec="seconds"),
        }
        return {**self.listed(), "product_id": product, **times}


@dataclass(slots=True, kw_only=True)
class Product:
    id: int
    #: The kind: "product", "Pre-built" or "Custom Built".
    kind: str
    name: str
    sku: str
    price: Decimal
    vertical: dict[str, Any]
    category: dict[str, Any]
    description: str
    created_at: datetime
    updated_at: datetime
    alive: bool = True
    variants: dict[int, Variant] = field(default_factory=dict)
    #: Deleted variants. Each later snapshot of the product says again that they are gone.
    retired: list[Variant] = field(default_factory=list)
    #: The items of a bundle: `{id, name}`, and `quantity` in a pre-built bundle.
    children: list[dict[str, Any]] = field(default_factory=list)

    def event_object(self) -> dict[str, Any]:
        """Write `data.object` of product.created and product.updated, like the three samples of the guide."""
        regular = self.kind == "product"
        return {
            "id": self.id,
            "name": self.name,
            "sku": self.sku,
            "vertical": self.vertical,
            "category": self.category,
            "max_quantity": 10,
            "description": self.description,
            "images": [],
            "custom_fields": [custom_field(self.id)] if regular else [],
            "is_taxable": int(regular),
            "tax_code": "123456ABC" if regular else None,
            "digital_download_url": "",
            "is_shippable": int(regular),
            "created_at": eastern(self.created_at).isoformat(timespec="seconds"),
            "updated_at": eastern(self.updated_at).isoformat(timespec="seconds"),
            **(self._regular() if regular else self._bundle()),
        }

    def _regular(self) -> dict[str, Any]:
        return {
            "type": "product",
            "price": str(self.price),
            "cost_of_goods": "0.00",
            "restocking_fee": "0.00",
            "variants": [variant.listed() for variant in self.variants.values()],
        }

    def _bundle(self) -> dict[str, Any]:
        prebuilt = self.kind == "Pre-built"
        pricing = (
            {"pricing_model_id": 2, "cost_of_goods": "0.00", "restocking_fee": "0.00"}
            if prebuilt
            else {"pricing_model_id": 1, "pricing_model": "custom", "max_items": 10}
        )
        return {
            "type": "bundle",
            "bundle_type": self.kind,
            "use_children_sku": 1,
            "price": str(self.price),
            **pricing,
            "products": self.children,
        }


def attribute(number: int, kind: int, name: str, option: int, value: str) -> dict[str, Any]:
    return {"id": number, "attribute": {"id": kind, "name": name, "option": {"id": option, "name": value}}}


def variant_name(variant: Variant) -> str:
    """Return the name of a variant: the options of its attributes, in their order."""
    return f"{variant.color} / {variant.size}"


def custom_field(number: int) -> dict[str, Any]:
    return {
        "id": 1,
        "field_type_id": 1,
        "name": "material",
        "token_key": "test_product_field",
        "is_multi": 0,
        "type_id": 3,
        "values": [{"option_id": 0, "value": f"material {number}", "name": "material"}],
    }


def invent_product(
    rng: Rng, number: int, at: datetime, *, others: Sequence[Product], kind: str | None = None
) -> Product:
    kind = kind or rng.weighted({"product": 7, "Pre-built": 2, "Custom Built": 1})
    vertical, category = rng.choice(VERTICALS), rng.choice(CATEGORIES)
    return Product(
        id=number,
        kind=kind,
        name=rng.name(),
        sku=rng.sku(),
        price=rng.price(4),
        vertical={"id": vertical[0], "name": vertical[1]},
        category={"id": category[0], "name": category[1], "description": category[2]},
        description=rng.sentence(),
        created_at=at.astimezone(UTC),
        updated_at=at.astimezone(UTC),
        children=[] if kind == "product" else invent_children(rng, kind, others),
    )


def invent_children(rng: Rng, kind: str, others: Sequence[Product]) -> list[dict[str, Any]]:
    chosen = rng.sample(others, min(3, len(others)))
    quantity = {"quantity": 1} if kind == "Pre-built" else {}
    return [{**quantity, "id": product.id, "name": product.name} for product in chosen]


def invent_variant(rng: Rng, number: int, at: datetime) -> Variant:
    return Variant(
        id=number,
        sku=rng.sku(),
        price=rng.price(4),
        quantity=rng.randrange(100),
        weight=rng.randrange(1, 20),
        color=rng.choice(COLORS),
        size=rng.choice(SIZES),
        created_at=at,
        updated_at=at,
    )
