"""Shopify: the products of a shop, from the webhooks products/create, products/update and products/delete.

Facts are from shopify.dev, "Verify webhook deliveries". The topic is in a header that is not signed, so the dialect
does not read it: a body with nothing but an id is a delete.
"""

from decimal import Decimal
from typing import Any

from pydantic import AwareDatetime, BaseModel
from sqlmodel import Field

from receiver import ARRIVAL, Dialect, Envelope, Event, Mirror, MirrorRow, price_field
from receiver.senders import Shopify

shopify = Dialect("shopify", verify=Shopify())


class ShopProduct(MirrorRow, table=True):
    __tablename__ = "shop_products"

    title: str | None = None
    vendor: str | None = None
    status: str | None = None
    tags: str | None = None


class ShopVariant(MirrorRow, table=True):
    __tablename__ = "shop_variants"
    parent_table = ShopProduct

    parent: str | None = Field(default=None, index=True)
    sku: str | None = None
    price: Decimal | None = price_field()


class VariantData(BaseModel):
    id: int
    sku: str | None = None
    price: Decimal | None = None


class ProductData(BaseModel):
    updated_at: AwareDatetime
    title: str | None = None
    vendor: str | None = None
    status: str | None = None
    tags: str | None = None
    variants: list[VariantData] = []


@shopify.envelope
def read(body: dict[str, Any]) -> Envelope:
    product = ("product", str(body["id"]))
    if body.keys() == {"id"}:
        return Envelope(event_type="products/delete", entity=product, occurred_at=ARRIVAL, data=None)
    data = ProductData.model_validate(body)
    return Envelope(event_type="products/update", entity=product, occurred_at=data.updated_at, data=body)


@shopify.compose
def write(event_type: str, entity_id: str, at: Any, data: Any) -> Any:
    if event_type == "products/delete":
        return {"id": entity_id}
    return {**(data or {}), "id": entity_id, "updated_at": at.isoformat()}


@shopify.on("products/update")
def upsert_product(event: Event[ProductData], mirror: Mirror) -> None:
    product = event.data
    news = product.model_dump(exclude_unset=True, exclude={"updated_at", "variants"})
    mirror.upsert(ShopProduct, event.entity_id, **news)
    for variant in product.variants:
        mirror.upsert(
            ShopVariant,
            str(variant.id),
            parent=event.entity_id,
            **variant.model_dump(exclude_unset=True, exclude={"id"}),
        )
    if "variants" in product.model_fields_set:
        mirror.keep_only(ShopVariant, [str(variant.id) for variant in product.variants], parent=event.entity_id)


@shopify.on("products/delete")
def deactivate_product(event: Event[None], mirror: Mirror) -> None:
    mirror.deactivate(ShopProduct, event.entity_id)
