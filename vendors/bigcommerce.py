"""BigCommerce: thin events, and values from the API (docs/senders/bigcommerce.md has the facts)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import httpx

from handlers.api import NotFoundError, client, fetch, of_id, patiently, required, segment, shaped
from handlers.catalog import Product, Variant
from handlers.values import Id, MomentOrNone, Price, Sent, ShortText, Text, id_of
from receiver import Dialect, Discard, Envelope, Event, Listed, ListPage, Mirror, SourceSettings, Unreadable, Wanted
from receiver.senders import BigCommerce
from vendors.lagging import GONE, deactivate_gone, time_of_answer
from vendors.tables import StockLevel
from vendors.values import in_seconds, member, number_or_text, text_at, unix_moment_at

PAGE = 50  #: products in one page, each with its variants

bigcommerce = Dialect("bigcommerce", verify=BigCommerce())


@bigcommerce.envelope
def read(body: dict[str, Any], signed: Mapping[str, str]) -> Envelope:
    scope, data = text_at(body, "scope"), body.get("data")
    return Envelope(
        event_type=scope,
        entity=_entity(scope, data),
        occurred_at=unix_moment_at(body, "created_at"),
        data=data,
        dedup_key=signed.get("webhook-id"),
    )


def _entity(scope: str, data: Any) -> tuple[str, str] | None:
    """Return the product of the event; None for a scope without a handler.

    A SKU counts as its product, which is fetched with all its variants.
    """
    if bigcommerce.handler_for(scope) is None:
        return None
    kind = member(data, "type")
    if kind == "product":
        return "product", id_of(data, ("id",), what="data")
    if kind == "sku":
        owner = data.get("sku") or data.get("inventory")
        return "product", id_of(owner, ("product_id",), what="data.sku")
    raise Unreadable("`data.type` is neither product nor sku, so the body does not say what changed.")


@bigcommerce.compose
def write(event_type: str, entity_id: str, at: datetime, data: Any) -> dict[str, Any]:
    own = {"type": "product", "id": number_or_text(entity_id), **(data or {})}
    return {"scope": event_type, "store_id": "1", "data": own, "created_at": in_seconds(at), "producer": "stores/test"}


class VariantAnswer(Sent):
    id: Id
    sku: ShortText = None
    price: Price = None
    calculated_price: Price = None
    inventory_level: Price = None


def shared_stock(product_id: str) -> str:
    """Make the external id of the stock that all variants of a product share. A variant may have the product's id."""
    return f"product:{product_id}"


class ProductAnswer(Sent):
    id: Id
    name: Text = None
    sku: ShortText = None
    price: Price = None
    is_visible: bool | None = None
    #: "none", "product" or "variant": where the stock is counted.
    inventory_tracking: Text = None
    inventory_level: Price = None
    date_modified: MomentOrNone = None
    variants: list[VariantAnswer]

    def listed(self) -> Iterable[Listed]:
        state = {None: None, True: "visible", False: "hidden"}[self.is_visible]
        columns = {"name": self.name, "sku": self.sku, "price": self.price, "lifecycle_state": state}
        yield Listed(Product, self.id, columns)
        for variant in self.variants:
            # A variant without a price of its own has the price of its product.
            price = self.price if variant.price is None else variant.price
            yield Listed(Variant, variant.id, {"parent": self.id, "sku": variant.sku or None, "price": price})
            yield Listed(StockLevel, variant.id, {"item": variant.id, "available": self._available(variant)})
        if self.shares_stock:
            yield Listed(StockLevel, shared_stock(self.id), {"item": self.id, "available": self.inventory_level})

    @property
    def shares_stock(self) -> bool:
        """Whether the stock is counted for the product, so that its variants have no quantities of their own."""
        return self.inventory_tracking == "product" and len(self.variants) != 1

    def _available(self, variant: VariantAnswer) -> Decimal | None:
        """Return the quantity of a variant; None if it is not counted, or if all variants share that of the product."""
        if self.inventory_tracking == "product":
            return None if self.shares_stock else self.inventory_level
        return None if self.inventory_tracking == "none" else variant.inventory_level


#: The events whose values are fetched. A delete needs none, so it does not depend on the API. A subscription to
#: `store/product/*` also brings events about metafields, which name neither a product nor a SKU.
FETCHED = [f"store/{kind}/{what}" for kind in ("product", "sku") for what in ("created", "updated", "inventory/*")]


@bigcommerce.hydrate(*FETCHED)
def fetch_product(event: Event[Any], api: httpx.Client) -> ProductAnswer | str:
    return _product(api, event.entity_id) or GONE


@bigcommerce.on(*FETCHED)
def upsert_product(event: Event[Any], mirror: Mirror) -> None:
    answer: ProductAnswer | str | None = event.hydrated
    if answer is None:
        _take_the_name_alone(event, mirror)
    elif isinstance(answer, str):
        deactivate_gone(event, mirror, Product)
        mirror.deactivate(StockLevel, shared_stock(event.entity_id))
    else:
        at = time_of_answer(event, mirror, Product, answer.whole, answer.date_modified)
        for row in answer.listed():
            documents = {"data": answer.whole} if row.table is Product else {}
            mirror.upsert(row.table, row.external_id, at=at, **row.columns, **documents)
        mirror.keep_only(Variant, [variant.id for variant in answer.variants], parent=event.entity_id, at=at)
        # Few products have shared stock, so the others get no tombstone for it.
        if not answer.shares_stock and mirror.get(StockLevel, shared_stock(event.entity_id)) is not None:
            mirror.deactivate(StockLevel, shared_stock(event.entity_id), at=at)


def _take_the_name_alone(event: Event[Any], mirror: Mirror) -> None:
    """Upsert product and variant without values. Raises `Discard` for an event about a quantity."""
    if "/inventory/" in event.event_type:
        raise Discard("BigCommerce does not say clearly whether a quantity is absolute or a difference: set api_url.")
    mirror.upsert(Product, event.entity_id)
    if member(event.data, "type") == "sku" or member(event.data, "sku.variant_id") is not None:
        variant_id = id_of(event.data.get("sku"), ("variant_id",), what="data.sku")
        mirror.upsert(Variant, variant_id, parent=event.entity_id)


@bigcommerce.on("store/product/deleted")
def deactivate_product(event: Event[Any], mirror: Mirror) -> None:
    mirror.deactivate(Product, event.entity_id)
    # Even if the mirror does not have it, because late news of it must not revive it.
    mirror.deactivate(StockLevel, shared_stock(event.entity_id))


@bigcommerce.on("store/sku/deleted")
def deactivate_variant(event: Event[Any], mirror: Mirror) -> None:
    variant = id_of(member(event.data, "sku"), ("variant_id",), what="data.sku")
    mirror.deactivate(Variant, variant)
    mirror.deactivate(StockLevel, variant)


# ── the API ───────────────────────────────────────────────────────────────────────────────────────────────────


@bigcommerce.connect
def connect(source: SourceSettings) -> httpx.Client:
    """Make the client. `api_url` is https://api.bigcommerce.com/stores/<store hash>/v3, `api_key` an access token."""
    return client(source, headers={"X-Auth-Token": required(source, "api_key", source.api_key)})


class One(Sent):
    data: ProductAnswer


class Pagination(Sent):
    total: int
    total_pages: int


class Meta(Sent):
    pagination: Pagination


class Page(Sent):
    data: list[ProductAnswer]
    meta: Meta


def _product(api: httpx.Client, external_id: str) -> ProductAnswer | None:
    path = f"/catalog/products/{segment(external_id)}"
    try:
        found = shaped(One, fetch(api, path, include="variants"), path).data
    except NotFoundError as error:
        # Only the API's own answer names the product. A web server's 404 under a wrong api_url does not.
        if "product" in (error.said or "").lower():
            return None
        raise
    return of_id(external_id, found.id, found, path)


@bigcommerce.pages(Product, Variant, StockLevel)
def read_products(api: httpx.Client, start: int | None) -> ListPage:
    number, path = start or 1, "/catalog/products"
    query: dict[str, str | int] = {"include": "variants", "sort": "id", "limit": PAGE, "page": number}
    page = shaped(Page, patiently(lambda: fetch(api, path, **query)), path)
    rows = [row for product in page.data for row in product.listed()]
    pages = page.meta.pagination
    return ListPage(rows, next=number + 1 if number < pages.total_pages else None, total=pages.total)


@bigcommerce.lookup(Product)
def ask(api: httpx.Client, wanted: Wanted) -> list[Listed]:
    found = patiently(lambda: _product(api, wanted.external_id))
    return [] if found is None else list(found.listed())
