"""Shopify: products with their variants, and stock by location (docs/senders/shopify.md has every fact and its source).

The topic is in a header that the signature does not cover, so the dialect reads the event type from the body's shape.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import httpx
from pydantic import BeforeValidator

from handlers.api import patiently, wait_for_api
from handlers.catalog import Product, Variant
from handlers.entities import entity_of
from handlers.values import Id, Price, Sent, ShortText, Text, id_of
from receiver import ARRIVAL, Dialect, Envelope, Event, Listed, ListPage, Mirror, SourceSettings, Unreadable, Wanted
from receiver.senders import Shopify
from vendors import shopify_api
from vendors.tables import StockLevel
from vendors.values import TEST_EVENT, moment_at, number_or_text, read_test_event, write_test_event

shopify = Dialect("shopify", verify=Shopify(), keep_headers=("X-Shopify-Topic", "X-Shopify-Event-Id"))

#: The most variants in the body of a product that has more. `variant_gids` names all of them.
MOST_VARIANTS = 100

#: The members that identify a stock level. The body about a deleted level has only these.
LEVEL = {"inventory_item_id", "location_id"}


# ── the envelope ──────────────────────────────────────────────────────────────────────────────────────────────


@shopify.envelope
def read(body: dict[str, Any]) -> Envelope:
    if body.keys() == {"id"}:
        return _envelope("products/delete", ("product", id_of(body, ("id",), what="body")), ARRIVAL, None)
    if body.keys() >= LEVEL:
        level = ("stock_level", f"{_id(body, 'inventory_item_id')}:{_id(body, 'location_id')}")
        if body.keys() == LEVEL:
            return _envelope("inventory_levels/disconnect", level, ARRIVAL, None)
        return _envelope("inventory_levels/update", level, moment_at(body, "updated_at"), body)
    if (test := read_test_event(body)) is not None:
        return test
    kind = _kind(body)
    if kind == "product":
        return _envelope("products/update", (kind, _id(body, "id")), moment_at(body, "updated_at"), body)
    if kind == "inventorylevel":
        raise Unreadable(
            "The body is about an inventory level and does not name both its item and its location: let the "
            "subscription include `inventory_item_id` and `location_id`."
        )
    return _of_another_kind(kind, body)


def _of_another_kind(kind: str, body: dict[str, Any]) -> Envelope:
    """Read a body about another resource. If no handler takes it, it may have another form, as a refund has."""
    event_type = f"{kind}/other"
    entity = entity_of(shopify, event_type, kind, body, ("id",), what="body")
    try:
        at = moment_at(body, "updated_at")
    except Unreadable:
        if shopify.handler_for(event_type) is not None:
            raise
        at = ARRIVAL
    return _envelope(event_type, entity, at, body)


def _envelope(event_type: str, entity: tuple[str, str] | None, at: datetime, data: Any) -> Envelope:
    return Envelope(event_type=event_type, entity=entity, occurred_at=at, data=data)


def _id(body: dict[str, Any], name: str) -> str:
    return id_of(body, (name,), what="body")


def _kind(body: dict[str, Any]) -> str:
    """Return the kind of the body's object, from its global id, or from its members if the global id is left out."""
    gid = body.get("admin_graphql_api_id")
    if isinstance(gid, str) and gid.startswith("gid://shopify/"):
        return gid.removeprefix("gid://shopify/").partition("/")[0][:64].lower()
    if "title" in body and "product_id" not in body:
        return "product"
    raise Unreadable(
        "The body does not name its object: let the subscription include `admin_graphql_api_id`, and send only "
        "the topics of products and inventory levels to this source."
    )


@shopify.compose
def write(event_type: str, entity_id: str, at: datetime, data: Any) -> dict[str, Any]:
    if event_type == TEST_EVENT:
        return write_test_event(at)
    if event_type.startswith("inventory_levels/"):
        item, _, location = entity_id.partition(":")
        level = {"inventory_item_id": number_or_text(item), "location_id": number_or_text(location)}
        is_gone = event_type.endswith("/disconnect")
        return level if is_gone else {**level, "available": None, "updated_at": at, **(data or {})}
    own = {"id": number_or_text(entity_id)}
    if event_type == "products/delete":
        return own
    return {"admin_graphql_api_id": f"gid://shopify/Product/{entity_id}", **own, "updated_at": at, **(data or {})}


# ── products and variants ─────────────────────────────────────────────────────────────────────────────────────


def id_in_gid(value: Any) -> str:
    """Return the number at the end of the global id in `{"admin_graphql_api_id": …}`. Raises `ValueError`."""
    gid = value.get("admin_graphql_api_id") if isinstance(value, dict) else None
    number = gid.rpartition("/")[2] if isinstance(gid, str) else ""
    if not (number.isascii() and number.isdecimal()):
        raise ValueError("a variant is named by its admin_graphql_api_id, gid://shopify/ProductVariant/<number>")
    return number


class VariantData(Sent):
    id: Id
    title: Text = None
    sku: ShortText = None
    price: Price = None


class ProductData(Sent):
    title: Text = None
    status: Text = None
    #: None if the subscription leaves out the variants.
    variants: list[VariantData] | None = None
    #: The global ids of all variants, also of a product with more variants than fit into `variants`.
    variant_gids: list[Annotated[str, BeforeValidator(id_in_gid)]] | None = None


@shopify.on("products/update")
def upsert_product(event: Event[ProductData], mirror: Mirror) -> None:
    product, columns = event.data, event.data.news(name="title", lifecycle_state="status")
    mirror.upsert(Product, event.entity_id, **columns, data=product.whole)
    if product.variants is None:
        return
    for variant in product.variants:
        news = variant.news(name="title", sku="sku", price="price")
        mirror.upsert(Variant, variant.id, parent=event.entity_id, **news, data=variant.whole)
    told = {variant.id for variant in product.variants}
    if product.variant_gids is None and len(told) >= MOST_VARIANTS:
        # The product may have more variants, because the subscription leaves out the list of all.
        return
    for named in set(product.variant_gids or ()) - told:
        mirror.upsert(Variant, named, parent=event.entity_id)
    mirror.keep_only(Variant, told.union(product.variant_gids or ()), parent=event.entity_id)


@shopify.on("products/delete")
def deactivate_product(event: Event[Any], mirror: Mirror) -> None:
    """Deactivate a product. If the source has an `api_url`, the API has to confirm the delete."""
    if not event.hydrated:
        mirror.deactivate(Product, event.entity_id)
        return
    wait_for_api(event, mirror.get(Product, event.entity_id), "the deleted product is still there")
    _upsert_listed(event.hydrated, mirror)


# ── stock ─────────────────────────────────────────────────────────────────────────────────────────────────────


class LevelData(Sent):
    inventory_item_id: Id
    location_id: Id
    available: Price = None


@shopify.on("inventory_levels/update")
def upsert_level(event: Event[LevelData], mirror: Mirror) -> None:
    columns = event.data.news(item="inventory_item_id", location="location_id", available="available")
    mirror.upsert(StockLevel, event.entity_id, **columns)


@shopify.on("inventory_levels/disconnect")
def deactivate_level(event: Event[Any], mirror: Mirror) -> None:
    if not event.hydrated:
        mirror.deactivate(StockLevel, event.entity_id)
        return
    wait_for_api(event, mirror.get(StockLevel, event.entity_id), "the disconnected level is still there")
    _upsert_listed(event.hydrated, mirror)


def _upsert_listed(rows: list[Listed], mirror: Mirror) -> None:
    for row in rows:
        mirror.upsert(row.table, row.external_id, at=row.changed_at, **row.columns)


# ── the Admin API ─────────────────────────────────────────────────────────────────────────────────────────────


@shopify.connect
def connect(source: SourceSettings) -> httpx.Client:
    """Make the client. `api_url` names shop and version: https://<shop>.myshopify.com/admin/api/2026-10."""
    return shopify_api.connect(source)


@shopify.hydrate("products/delete")
def find_product(event: Event[Any], api: httpx.Client) -> list[Listed]:
    return shopify_api.product(api, event.entity_id)


@shopify.hydrate("inventory_levels/disconnect")
def find_level(event: Event[Any], api: httpx.Client) -> list[Listed]:
    return shopify_api.level(api, event.entity_id)


@shopify.pages(Product)
def read_products(api: httpx.Client, start: str | None) -> ListPage:
    return shopify_api.products(api, start)


@shopify.pages(Variant)
def read_variants(api: httpx.Client, start: str | None) -> ListPage:
    return shopify_api.variants(api, start)


@shopify.pages(StockLevel)
def read_levels(api: httpx.Client, start: str | None) -> ListPage:
    return shopify_api.levels(api, start)


@shopify.lookup(Product, Variant, StockLevel)
def ask(api: httpx.Client, wanted: Wanted) -> list[Listed]:
    one = {Product: shopify_api.product, Variant: shopify_api.variant, StockLevel: shopify_api.level}[wanted.table]
    return patiently(lambda: one(api, wanted.external_id))
