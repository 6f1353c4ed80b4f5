"""IIMMPACT: events with full resources of a reload and bill payment catalog (products, options, categories, groups).

Facts are from the IIMMPACT docs, pages Catalog Webhook Events ("Payload Format", "Delete Events", "Signature
Verification") and Catalog Webhooks; facts about the API are from docs/sources.md. The members of `data` are published
only for products.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import httpx
from pydantic import BaseModel, BeforeValidator

from handlers.api import client, fetch_patiently, required, shaped
from handlers.catalog import CatalogRow, Category, Group, Option, Product
from handlers.entities import entity_of
from handlers.iimmpact_auth import SignedRequests
from handlers.values import Id, IdOrNone, Moment, Sent, ShortText, Text, as_price, as_text
from receiver import Dialect, Envelope, Event, HmacSha256, Listed, ListPage, Mirror, SourceSettings, Wanted

#: The part of `type` before the dot, and the value of `resource` for it.
RESOURCES = {"product": "products", "option": "options", "category": "categories", "group": "groups"}

TABLES: dict[str, type[CatalogRow]] = {"product": Product, "option": Option, "category": Category, "group": Group}

#: IIMMPACT docs, "Signature Verification": `sha256=<hex>`, under the characters of the secret.
iimmpact = Dialect("iimmpact", verify=HmacSha256(header="X-Webhook-Signature", prefix_required=True))


class Body(BaseModel):
    """IIMMPACT docs, "Payload Format"."""

    type: str
    id: Any = None
    #: The time of change.
    timestamp: Moment
    data: Any = None


#: A product is active unless its `is_active` is false. Any other word is refused: taken for either, it could show a
#: product that is off sale as active, or hide one that is on sale.
OnUnlessOff = Annotated[bool, BeforeValidator(lambda value: True if value is None else value)]


class ProductData(Sent):
    """IIMMPACT docs, "Payload Format". A product has no price."""

    name: Text = None
    display_name: Text = None
    product_code: ShortText = None
    product_category_code: IdOrNone = None
    is_active: OnUnlessOff = True

    def columns(self) -> dict[str, Any]:
        name = self.news(name="display_name")
        if self.display_name is None:
            name |= self.news(name="name")
        return name | self.news(sku="product_code", parent="product_category_code") | {"active": self.is_active}


class OptionData(Sent):
    """An option as in `GET /v2/options`, the only published shape. An event may name its members differently."""

    label: Text = None
    name: Text = None
    price: Any = None
    amount: Any = None
    currency: Text = None
    product_code: IdOrNone = None

    def columns(self) -> dict[str, Any]:
        name = self.news(name="name") | self.news(name="label")
        return name | self.news(parent="product_code") | self._price()

    def _price(self) -> dict[str, Any]:
        money = self.price if isinstance(self.price, dict) else {}
        news = self.news(price="amount") | self.news(price="price") | self.news(currency="currency")
        if money:
            news |= {"price": money.get("amount")}
            news |= {"currency": as_text(money["currency"])} if "currency" in money else {}
        return news | ({"price": as_price(news["price"])} if "price" in news else {})


class CategoryData(Sent):
    name: Text = None
    group_id: IdOrNone = None


class GroupData(Sent):
    name: Text = None


@iimmpact.envelope
def read(body: Body) -> Envelope:
    kind = body.type.partition(".")[0]
    entity = None
    if kind in RESOURCES:
        entity = entity_of(iimmpact, body.type, kind, {"id": body.id}, ("id",), what="body")
    return Envelope(event_type=body.type, entity=entity, occurred_at=body.timestamp, data=body.data)


@iimmpact.compose
def write(event_type: str, entity_id: str, at: datetime, data: Any) -> dict[str, Any]:
    kind = event_type.partition(".")[0]
    return {
        "type": event_type,
        "resource": RESOURCES.get(kind, kind),
        "id": entity_id,
        "timestamp": at,
        "data": data,
    }


@iimmpact.on("product.created", "product.updated")
def upsert_product(event: Event[ProductData], mirror: Mirror) -> None:
    mirror.upsert(Product, event.entity_id, **event.data.columns(), data=event.data.whole)


@iimmpact.on("option.created", "option.updated")
def upsert_option(event: Event[OptionData], mirror: Mirror) -> None:
    mirror.upsert(Option, event.entity_id, **event.data.columns(), data=event.data.whole)


@iimmpact.on("category.created", "category.updated")
def upsert_category(event: Event[CategoryData], mirror: Mirror) -> None:
    columns = event.data.news(name="name", parent="group_id")
    mirror.upsert(Category, event.entity_id, **columns, data=event.data.whole)


@iimmpact.on("group.created", "group.updated")
def upsert_group(event: Event[GroupData], mirror: Mirror) -> None:
    mirror.upsert(Group, event.entity_id, **event.data.news(name="name"), data=event.data.whole)


@iimmpact.on(*(f"{kind}.deleted" for kind in RESOURCES))
def deactivate(event: Event[None], mirror: Mirror) -> None:
    """Deactivate the row. `data` is null, and the resource may come back (IIMMPACT docs, "Delete Events")."""
    mirror.deactivate(TABLES[event.entity_kind], event.entity_id)


class ListedProduct(Sent):
    """A product in `GET /v2/catalog`, where `code` and `name` are the events' `product_code` and `display_name`."""

    code: Id
    name: Text = None
    is_active: OnUnlessOff = True


class ListedCategory(Sent):
    id: Id
    name: Text = None
    product_codes: tuple[Id, ...] = ()


class ListedGroup(Sent):
    id: Id
    name: Text = None
    categories: tuple[ListedCategory, ...] = ()


class Tree(Sent):
    groups: list[ListedGroup]


class Catalog(Sent):
    """The whole catalog in one answer (docs/sources.md, IIMMPACT)."""

    tree: Tree
    products: dict[str, ListedProduct]


@iimmpact.connect
def connect(source: SourceSettings) -> httpx.Client:
    """Make the client. `api_url` is the part of the API's URL before `/v2`."""
    key = required(source, "api_key", source.api_key)
    secret = required(source, "api_secret", source.api_secret)
    return client(source, auth=SignedRequests(key, secret))


@iimmpact.pages(Group, Category, Product)
def read_catalog(api: httpx.Client, start: None) -> ListPage:  # noqa: ARG001 (the whole catalog is one page)
    """Read the whole catalog, without options: the API lists them only by product and field."""
    return ListPage(list(_rows(api)))


@iimmpact.lookup(Group, Category, Product)
def ask(api: httpx.Client, wanted: Wanted) -> list[Listed]:
    """Find a row in the whole catalog, which is one answer: the API has no request for one entity."""
    return [row for row in _rows(api) if row.table is wanted.table and row.external_id == wanted.external_id]


def _rows(api: httpx.Client) -> Iterator[Listed]:
    path = "/v2/catalog"
    catalog = shaped(Catalog, fetch_patiently(api, path), path)
    categories: dict[str, str] = {}
    for group in catalog.tree.groups:
        yield Listed(Group, group.id, group.news(name="name"))
        for category in group.categories:
            yield Listed(Category, category.id, category.news(name="name") | {"parent": group.id})
            categories |= dict.fromkeys(category.product_codes, category.id)
    for product in catalog.products.values():
        yield Listed(Product, product.code, _columns(product, categories), active=product.is_active)


def _columns(product: ListedProduct, categories: dict[str, str]) -> dict[str, Any]:
    parent = {"parent": categories[product.code]} if product.code in categories else {}
    return product.news(name="name") | {"sku": product.code} | parent
