"""Stripe: products and prices (docs/senders/stripe.md has every fact and its source)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import httpx
from pydantic import BeforeValidator

from handlers import values
from handlers.api import NotFoundError, client, fetch, patiently, required, segment, shaped
from handlers.catalog import Product
from handlers.values import Id, Sent, Text, as_id, id_of
from receiver import Dialect, Envelope, Event, Listed, ListPage, Mirror, SourceSettings, Wanted
from receiver.senders import Stripe
from vendors.tables import Price
from vendors.values import in_seconds, member, moment_at, text_at, unix_moment_at, unix_moment_or_none

PAGE = 100  #: objects in one page: the largest page that the API gives

stripe = Dialect("stripe", verify=Stripe())


@stripe.envelope
def read(body: dict[str, Any]) -> Envelope:
    event_type, event_id = text_at(body, "type"), text_at(body, "id")
    if isinstance(body.get("created"), str) and stripe.handler_for(event_type) is None:
        # A thin event of the second API is never about this catalog.
        at = moment_at(body, "created")
        return Envelope(event_type=event_type, entity=None, occurred_at=at, data=None, dedup_key=event_id)
    thing, at = member(body, "data.object"), unix_moment_at(body, "created")
    kind = event_type.partition(".")[0]
    entity = (kind, id_of(thing, ("id",), what="data.object")) if kind in ("product", "price") else None
    return Envelope(event_type=event_type, entity=entity, occurred_at=at, data=thing, dedup_key=event_id)


@stripe.compose
def write(event_type: str, entity_id: str, at: datetime, data: Any) -> dict[str, Any]:
    kind = event_type.partition(".")[0]
    thing = {"id": entity_id, "object": kind, **(data or {})}
    event_id = f"evt_{event_type}_{entity_id}_{in_seconds(at)}"
    return {"id": event_id, "object": "event", "created": in_seconds(at), "type": event_type, "data": {"object": thing}}


def as_reference(value: Any) -> str | None:
    """Return the id of another object, given the id or the whole object; None without one."""
    return as_id(value.get("id") if isinstance(value, dict) else value) if value else None


Reference = Annotated[str | None, BeforeValidator(as_reference)]


class Sold(Sent):
    """The members that products and prices have in common."""

    active: bool | None = None

    def state(self) -> dict[str, Any]:
        return {} if self.active is None else {"lifecycle_state": "active" if self.active else "archived"}


class ProductData(Sold):
    name: Text = None

    def columns(self) -> dict[str, Any]:
        return self.news(name="name") | self.state()


class PriceData(Sold):
    product: Reference = None
    currency: Text = None
    unit_amount: values.Price = None
    #: The same amount with fractions of the smallest unit.
    unit_amount_decimal: values.Price = None
    recurring: Any = None

    def columns(self) -> dict[str, Any]:
        news = self.news(product="product", currency="currency") | self.news(unit_amount="unit_amount")
        if self.unit_amount_decimal is not None:
            news["unit_amount"] = self.unit_amount_decimal
        if "recurring" in self.model_fields_set:
            news["interval"] = values.as_text(member(self.recurring, "interval"))
        return news | self.state()


@stripe.on("product.created", "product.updated")
def upsert_product(event: Event[ProductData], mirror: Mirror) -> None:
    mirror.upsert(Product, event.entity_id, **event.data.columns(), data=event.data.whole)


@stripe.on("price.created", "price.updated")
def upsert_price(event: Event[PriceData], mirror: Mirror) -> None:
    mirror.upsert(Price, event.entity_id, **event.data.columns(), data=event.data.whole)


@stripe.on("product.deleted", "price.deleted")
def deactivate(event: Event[Any], mirror: Mirror) -> None:
    mirror.deactivate(Product if event.entity_kind == "product" else Price, event.entity_id)


# ── the API ───────────────────────────────────────────────────────────────────────────────────────────────────


@stripe.connect
def connect(source: SourceSettings) -> httpx.Client:
    """Make the client. `api_url` is https://api.stripe.com/v1, `api_key` a restricted key that may read both lists."""
    return client(source, headers={"Authorization": f"Bearer {required(source, 'api_key', source.api_key)}"})


class ListedProduct(ProductData):
    id: Id
    deleted: bool = False
    updated: Any = None

    def listed(self) -> Listed:
        return Listed(Product, self.id, self.columns(), changed_at=unix_moment_or_none(self.updated))


class ListedPrice(PriceData):
    id: Id
    deleted: bool = False

    def listed(self) -> Listed:
        return Listed(Price, self.id, self.columns())


class ProductPage(Sent):
    data: list[ListedProduct]
    has_more: bool


class PricePage(Sent):
    data: list[ListedPrice]
    has_more: bool


@stripe.pages(Product)
def read_products(api: httpx.Client, start: str | None) -> ListPage:
    return _page(api, "/products", ProductPage, start)


@stripe.pages(Price)
def read_prices(api: httpx.Client, start: str | None) -> ListPage:
    return _page(api, "/prices", PricePage, start)


def _page(api: httpx.Client, path: str, model: type[ProductPage] | type[PricePage], start: str | None) -> ListPage:
    after = {"starting_after": start} if start else {}
    page = shaped(model, patiently(lambda: fetch(api, path, limit=PAGE, **after)), path)
    rows = [each.listed() for each in page.data]
    return ListPage(rows, next=rows[-1].external_id if page.has_more and rows else None)


@stripe.lookup(Product, Price)
def ask(api: httpx.Client, wanted: Wanted) -> list[Listed]:
    name = "products" if wanted.table is Product else "prices"
    model: type[ListedProduct | ListedPrice] = ListedProduct if wanted.table is Product else ListedPrice
    path = f"/{name}/{segment(wanted.external_id)}"
    try:
        found = shaped(model, patiently(lambda: fetch(api, path)), path)
    except NotFoundError as error:
        if error.has_code("resource_missing", "error", "code"):
            return []
        raise
    return [] if found.deleted else [found.listed()]
