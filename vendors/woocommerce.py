"""WooCommerce: products, variations and their stock (docs/senders/woocommerce.md has every fact and its source).

The topic is in a header that the signature does not cover, so the dialect reads the event type from the body's shape.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import httpx

from handlers.api import NotFoundError, client, fetch, of_id, patiently, required, segment, shaped, wait_for_api
from handlers.catalog import Product, Variant
from handlers.values import Id, Price, Sent, ShortText, Text, as_id, id_of
from receiver import (
    ARRIVAL,
    Dialect,
    Envelope,
    Event,
    FormPing,
    Listed,
    ListPage,
    Mirror,
    SourceSettings,
    Unreadable,
    Wanted,
)
from receiver.senders import WooCommerce
from vendors.tables import StockLevel
from vendors.values import TEST_EVENT, number_or_text, read_test_event, text_at, utc_moment_at, write_test_event

PAGE = 100  #: products in one page: the largest page that the API gives

woocommerce = Dialect("woocommerce", verify=WooCommerce(), keep_headers=("X-WC-Webhook-Topic",))

# When a webhook is saved, WooCommerce posts `webhook_id=<number>` without a signature, and wants 200.
woocommerce.challenge(FormPing("webhook_id"))


#: The code of the error that WooCommerce posts in place of a product that is gone by the time of its webhook, and that
#: its API answers for such a product.
INVALID_ID = "woocommerce_rest_product_invalid_id"

#: The types of variations: WooCommerce's own, and that of its extension for subscriptions.
VARIATIONS = ("variation", "subscription_variation")


@woocommerce.envelope
def read(body: dict[str, Any]) -> Envelope:
    if (test := read_test_event(body)) is not None:
        return test
    if "id" not in body and (event_type := _without_product(body)):
        return Envelope(event_type=event_type, entity=None, occurred_at=ARRIVAL, data=body)
    product = ("product", id_of(body, ("id",), what="body"))
    if body.keys() == {"id"}:
        return Envelope(event_type="product.deleted", entity=product, occurred_at=ARRIVAL, data=None)
    at = utc_moment_at(body, "date_modified_gmt")
    # The bodies of orders, coupons and customers do not have both members.
    event_type = "product.updated" if {"sku", "type"} <= body.keys() else "other.updated"
    return Envelope(event_type=event_type, entity=product, occurred_at=at, data=body)


def _without_product(body: dict[str, Any]) -> str | None:
    """Return the event type of a body that is about no product; None for any other. Raises `Unreadable` for an error.

    WooCommerce makes a body by its own API when it sends it, as the user of the webhook, and posts an error, too.
    """
    if body.keys() == {"action", "arg"}:
        return f"action.{text_at(body, 'action')}"
    code = body.get("code")
    if not isinstance(code, str) or not code.startswith(("woocommerce_rest_", "rest_")):
        return None
    if code == INVALID_ID:
        return "product.gone"
    raise Unreadable(
        f"WooCommerce sent the error {code[:60]!r} in place of the product, so the change is lost: check that the "
        "webhook belongs to a user who may read products, and reconcile."
    )


@woocommerce.compose
def write(event_type: str, entity_id: str, at: datetime, data: Any) -> dict[str, Any]:
    if event_type == TEST_EVENT:
        return write_test_event(at)
    own = {"id": number_or_text(entity_id)}
    if event_type == "product.deleted":
        return own
    modified = at.astimezone(UTC).replace(tzinfo=None, microsecond=0).isoformat()
    return {**own, "type": "simple", "sku": "", "date_modified_gmt": modified, **(data or {})}


class ProductData(Sent):
    name: Text = None
    sku: ShortText = None
    price: Price = None
    status: Text = None
    type: Text = None
    parent_id: Id | None = None
    stock_quantity: Price = None
    #: Whether the stock is counted; "parent" if a variation shares the stock of its product, and has that quantity.
    manage_stock: Any = None
    variations: Any = None

    @property
    def is_gone(self) -> bool:
        return self.status == "trash"

    @property
    def is_variation(self) -> bool:
        return self.type in VARIATIONS

    def columns(self) -> dict[str, Any]:
        news = self.news(name="name", sku="sku", price="price", lifecycle_state="status")
        return news | {"sku": self.sku or None}

    def available(self) -> dict[str, Any]:
        """Return the column of the quantity, which is null if it is not counted; empty if the body has none."""
        if "stock_quantity" not in self.model_fields_set:
            return {}
        return {"available": None if self.manage_stock == "parent" else self.stock_quantity}


@woocommerce.on("product.updated")
def upsert_product(event: Event[ProductData], mirror: Mirror) -> None:
    product, columns = event.data, event.data.columns() | {"data": event.data.whole}
    if product.is_variation:
        mirror.upsert(Variant, event.entity_id, **product.news(parent="parent_id"), **columns)
    else:
        mirror.upsert(Product, event.entity_id, **columns)
        _keep_variations(event, mirror)
    if available := product.available():
        mirror.upsert(StockLevel, event.entity_id, item=event.entity_id, **available)
    if product.is_gone:
        # A program that saves a product with this status moves it to the trash without a delete.
        for table in (Variant if product.is_variation else Product, StockLevel):
            mirror.deactivate(table, event.entity_id)


def _keep_variations(event: Event[ProductData], mirror: Mirror) -> None:
    """Deactivate the variations that the product does not name: WooCommerce does not announce their deletes."""
    product = event.data
    if product.is_gone or not isinstance(product.variations, list):
        return
    try:
        ids = [as_id(each) for each in product.variations]
    except ValueError:
        # Version 1 of the API has whole objects here.
        return
    for variation in ids:
        mirror.upsert(Variant, variation, parent=event.entity_id)
    mirror.keep_only(Variant, ids, parent=event.entity_id)


@woocommerce.on("product.deleted")
def deactivate_product(event: Event[Any], mirror: Mirror) -> None:
    """Deactivate the product, variation and stock level of this id. The body does not say which one it was."""
    if event.hydrated:
        wait_for_api(event, mirror.get(Product, event.entity_id), "the deleted product is still there")
        for row in event.hydrated:
            mirror.upsert(row.table, row.external_id, at=row.changed_at, **row.columns)
        return
    for table in (Product, Variant, StockLevel):
        mirror.deactivate(table, event.entity_id)


# ── the API ───────────────────────────────────────────────────────────────────────────────────────────────────


@woocommerce.connect
def connect(source: SourceSettings) -> httpx.Client:
    """Make the client. `api_url` is the shop's address with /wp-json/wc/v3; key and secret belong to an API key."""
    key, secret = required(source, "api_key", source.api_key), required(source, "api_secret", source.api_secret)
    return client(source, auth=httpx.BasicAuth(key, secret))


class ListedProduct(ProductData):
    id: Id
    date_modified_gmt: Any = None

    def listed(self) -> Iterable[Listed]:
        if self.is_variation:
            yield Listed(Variant, self.id, self.columns() | {"parent": self.parent_id}, changed_at=self._changed_at())
        else:
            yield Listed(Product, self.id, self.columns(), changed_at=self._changed_at())
        # A sale does not always change the time of the product, so the quantity is that of the answer's time.
        yield Listed(StockLevel, self.id, {"item": self.id} | self.available())

    def _changed_at(self) -> datetime | None:
        """Return the time of change; None if there is none, as for a product that was written without WooCommerce."""
        try:
            return utc_moment_at(self.whole, "date_modified_gmt")
        except Unreadable:
            return None


@woocommerce.hydrate("product.deleted")
def find(event: Event[Any], api: httpx.Client) -> list[Listed]:
    return _product(api, event.entity_id)


class ListedVariation(ListedProduct):
    """A variation in the list of its product. Its name there is only that of its attributes."""

    @property
    def is_variation(self) -> bool:
        return True

    def columns(self) -> dict[str, Any]:
        return {name: value for name, value in super().columns().items() if name != "name"}

    def of(self, product_id: str) -> ListedVariation:
        """Return the variation with its product, which releases before 8.3 do not name in the list."""
        return self.model_copy(update={"parent_id": product_id})


class Products(Sent):
    products: list[ListedProduct]


class Variations(Sent):
    variations: list[ListedVariation]


@woocommerce.pages(Product, Variant, StockLevel)
def read_products(api: httpx.Client, start: Any) -> ListPage:
    """Read a page of products, and then each page of the variations of each of them.

    `start` is the number of a page of products, or a list: that number, None after the last page; the ids of the
    products whose variations are still to be read; and the number of the page of the first one's variations.
    """
    if isinstance(start, list):
        return _page_of_variations(api, *start)
    page = start or 1
    products = shaped(Products, {"products": _page(api, "/products", page)}, "/products").products
    rows = [row for each in products if not each.is_gone for row in each.listed()]
    following = page + 1 if len(products) == PAGE else None
    owners = [each.id for each in products if each.variations and not each.is_gone]
    return ListPage(rows, next=[following, owners, 1] if owners else following)


def _page_of_variations(api: httpx.Client, following: int | None, owners: list[str], page: int) -> ListPage:
    path = f"/products/{segment(owners[0])}/variations"
    try:
        answer = _page(api, path, page)
    except NotFoundError as error:
        # The product was deleted after its page was read.
        if not _is_gone(error):
            raise
        answer = []
    found = shaped(Variations, {"variations": answer}, path).variations
    rows = [row for each in found if not each.is_gone for row in each.of(owners[0]).listed()]
    if len(found) == PAGE:
        return ListPage(rows, next=[following, owners, page + 1])
    return ListPage(rows, next=[following, owners[1:], 1] if owners[1:] else following)


def _page(api: httpx.Client, path: str, page: int) -> Any:
    query: dict[str, str | int] = {"page": page, "per_page": PAGE, "orderby": "id", "order": "asc"}
    return patiently(lambda: fetch(api, path, **query))


@woocommerce.lookup(Product, Variant, StockLevel)
def ask(api: httpx.Client, wanted: Wanted) -> list[Listed]:
    return [row for row in patiently(lambda: _product(api, wanted.external_id)) if row.table is wanted.table]


def _product(api: httpx.Client, external_id: str) -> list[Listed]:
    """Fetch one product or variation; an empty list if it is gone or in the trash."""
    path = f"/products/{segment(external_id)}"
    try:
        found = shaped(ListedProduct, fetch(api, path), path)
    except NotFoundError as error:
        if _is_gone(error):
            return []
        raise
    of_id(external_id, found.id, found, path)
    return [] if found.is_gone else [*found.listed()]


def _is_gone(error: NotFoundError) -> bool:
    """Whether the answer says that there is no such product: WordPress also answers 404 under a wrong api_url."""
    return error.has_code(INVALID_ID, "code")
