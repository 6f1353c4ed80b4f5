"""Stripe: products and prices (docs/senders/stripe.md has every fact and its source)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import httpx
from pydantic import BeforeValidator

from handlers import values
from handlers.api import NotFoundError, client, fetch, of_id, patiently, required, segment, shaped
from handlers.catalog import Product
from handlers.entities import entity_of
from handlers.values import Id, Sent, Text, as_id, id_of
from receiver import ApiError, Dialect, Envelope, Event, Listed, ListPage, Mirror, SourceSettings, Wanted
from receiver.senders import Stripe
from vendors.lagging import GONE, deactivate_gone, time_of_answer
from vendors.tables import Price
from vendors.values import in_seconds, member, moment_at, text_at, unix_moment_at, unix_moment_or_none

PAGE = 100  #: objects in one page: the largest page that the API gives

#: The beginning of the types of thin events about products and prices. Those of objects of the second API have "v2.".
THIN = "v1."

#: The beginning of the types of events about objects of another account, which an endpoint for connected accounts or
#: for an organization gets. They have `account`, `context` or both.
#: Neither this account's key nor its lists have these objects, so nothing handles the events here.
CONNECTED = "connected."

#: In the error about an object that exists, but in live mode for a key of test mode, or the reverse. Its code is that
#: of an object that is gone.
OTHER_MODE = "a similar object exists in"

TABLES: dict[str, type[Product | Price]] = {"product": Product, "price": Price}

stripe = Dialect("stripe", verify=Stripe())


@stripe.envelope
def read(body: dict[str, Any]) -> Envelope:
    event_type, event_id = text_at(body, "type"), text_at(body, "id")
    if body.get("account") or body.get("context"):
        event_type = f"{CONNECTED}{event_type}"
    is_handled = stripe.handler_for(event_type) is not None
    is_thin = event_type.removeprefix(CONNECTED).startswith(THIN)
    if isinstance(body.get("created"), str) and (is_thin or not is_handled):
        return _read_thin(body, event_type, event_id, is_handled=is_handled)
    thing, at = member(body, "data.object"), unix_moment_at(body, "created")
    kind = _kind(event_type)
    entity = entity_of(stripe, event_type, kind, thing, ("id",), what="data.object") if kind in TABLES else None
    return Envelope(event_type=event_type, entity=entity, occurred_at=at, data=thing, dedup_key=event_id)


def _read_thin(body: dict[str, Any], event_type: str, event_id: str, *, is_handled: bool) -> Envelope:
    named = body.get("related_object")
    entity = (_kind(event_type), id_of(named, ("id",), what="related_object")) if is_handled else None
    at = moment_at(body, "created")
    return Envelope(event_type=event_type, entity=entity, occurred_at=at, data=named, dedup_key=event_id)


def _kind(event_type: str) -> str:
    return event_type.removeprefix(CONNECTED).removeprefix(THIN).partition(".")[0]


@stripe.compose
def write(event_type: str, entity_id: str, at: datetime, data: Any) -> dict[str, Any]:
    kind = _kind(event_type)
    event_id = f"evt_{event_type}_{entity_id}_{in_seconds(at)}"
    if event_type.startswith(THIN):
        named = {"id": entity_id, "type": kind, "url": f"/v1/{kind}s/{entity_id}", **(data or {})}
        return {"id": event_id, "object": "v2.core.event", "type": event_type, "created": at, "related_object": named}
    thing = {"id": entity_id, "object": kind, **(data or {})}
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
            news["interval"] = self._interval()
        return news | self.state()

    def _interval(self) -> str | None:
        unit, count = values.as_text(member(self.recurring, "interval")), member(self.recurring, "interval_count")
        return f"{count} {unit}s" if unit and isinstance(count, int) and count > 1 else unit


@stripe.on("product.created", "product.updated")
def upsert_product(event: Event[ProductData], mirror: Mirror) -> None:
    mirror.upsert(Product, event.entity_id, **event.data.columns(), data=event.data.whole)


@stripe.on("price.created", "price.updated")
def upsert_price(event: Event[PriceData], mirror: Mirror) -> None:
    mirror.upsert(Price, event.entity_id, **event.data.columns(), data=event.data.whole)


DELETES = [f"{kind}.deleted" for kind in TABLES]


@stripe.on(*DELETES, *(f"{THIN}{event_type}" for event_type in DELETES))
def deactivate(event: Event[Any], mirror: Mirror) -> None:
    mirror.deactivate(TABLES[event.entity_kind], event.entity_id)


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
def read_prices(api: httpx.Client, start: list[str | None] | str | None) -> ListPage:
    """Read a page of active prices, and after the last one a page of archived prices: no list has both.

    `start` is the value of `active` in the query, and the id after which the page begins. The mark of an earlier
    release has the id alone.
    """
    active, after = start if isinstance(start, list) else ["true", start]
    page = _page(api, "/prices", PricePage, after, active=str(active))
    if page.next is not None:
        return ListPage(page.rows, next=[active, page.next])
    return ListPage(page.rows, next=["false", None] if active == "true" else None)


def _page(
    api: httpx.Client, path: str, model: type[ProductPage] | type[PricePage], start: str | None, **query: str
) -> ListPage:
    after = {"starting_after": start} if start else {}
    page = shaped(model, patiently(lambda: fetch(api, path, limit=PAGE, **after, **query)), path)
    rows = [each.listed() for each in page.data]
    return ListPage(rows, next=rows[-1].external_id if page.has_more and rows else None)


@stripe.lookup(Product, Price)
def ask(api: httpx.Client, wanted: Wanted) -> list[Listed]:
    kind = "product" if wanted.table is Product else "price"
    found = patiently(lambda: _object(api, kind, wanted.external_id))
    return [] if found is None else [found.listed()]


def _object(api: httpx.Client, kind: str, external_id: str) -> ListedProduct | ListedPrice | None:
    """Fetch a product or price; None if the API does not have it, or says that it is deleted."""
    model: type[ListedProduct | ListedPrice] = ListedProduct if kind == "product" else ListedPrice
    path = f"/{kind}s/{segment(external_id)}"
    try:
        found = shaped(model, fetch(api, path), path)
    except NotFoundError as error:
        if OTHER_MODE in (error.text_at("error", "message") or ""):
            raise ApiError(
                f"{path} of the source's API answered 404: api_key is for test mode and the webhook for live mode, or "
                "the reverse. Take both from one mode."
            ) from None
        if error.has_code("resource_missing", "error", "code"):
            return None
        raise
    of_id(external_id, found.id, found, path)
    return None if found.deleted else found


# ── thin events ───────────────────────────────────────────────────────────────────────────────────────────────

THIN_UPSERTS = [f"{THIN}{kind}.{what}" for kind in TABLES for what in ("created", "updated")]


@stripe.hydrate(*THIN_UPSERTS)
def fetch_object(event: Event[Any], api: httpx.Client) -> ListedProduct | ListedPrice | str:
    return _object(api, event.entity_kind, event.entity_id) or GONE


@stripe.on(*THIN_UPSERTS)
def upsert_object(event: Event[Any], mirror: Mirror) -> None:
    """Upsert a product or price. Without an `api_url`, the row exists without values."""
    table, answer = TABLES[event.entity_kind], event.hydrated
    if answer is None:
        mirror.upsert(table, event.entity_id)
    elif isinstance(answer, str):
        deactivate_gone(event, mirror, table)
    else:
        changed_at = unix_moment_or_none(answer.whole.get("updated"))
        at = time_of_answer(event, mirror, table, answer.whole, changed_at)
        mirror.upsert(table, event.entity_id, at=at, **answer.columns(), data=answer.whole)
