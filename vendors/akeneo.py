"""Akeneo: products and product models, from the Event Platform or the older Events API (docs/senders/akeneo.md)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx

from handlers.api import NotFoundError, client, fetch, of_id, patiently, required, segment, shaped
from handlers.catalog import Group, Product
from handlers.entities import entity_of
from handlers.values import Id, IdOrNone, MomentOrNone, Sent, ShortText, Text, as_short_text, id_of
from receiver import Dialect, Envelope, Event, Listed, ListPage, Mirror, SourceSettings, Unreadable, Wanted, each
from receiver.senders import Akeneo, AkeneoEvents
from vendors.lagging import GONE, deactivate_gone, time_of_answer
from vendors.values import list_at, member, moment_at, text_at

PAGE = 100  #: rows in one page: the largest page that the API gives

PLATFORM = "com.akeneo.pim.v1."

akeneo = Dialect("akeneo", verify=Akeneo())
akeneo_events = Dialect("akeneo-events", verify=AkeneoEvents())


#: The type of the attributes that identify products, and the usual code of the main one.
IDENTIFIER, SKU = "pim_catalog_identifier", "sku"


class ProductData(Sent):
    uuid: Text = None
    #: Products of the Events API have it. Those of the API by uuid have identifiers among their values only.
    identifier: ShortText = None
    values: Any = None
    #: The code of its product model.
    parent: IdOrNone = None
    enabled: bool | None = None
    updated: MomentOrNone = None

    def columns(self) -> dict[str, Any]:
        state = {} if self.enabled is None else {"lifecycle_state": "enabled" if self.enabled else "disabled"}
        return self._sku() | self.news(parent="parent") | state

    def _sku(self) -> dict[str, Any]:
        if "identifier" in self.model_fields_set or not isinstance(self.values, dict):
            return self.news(sku="identifier")
        # Older PIMs do not say the types of attributes.
        main = _text_in(self.values.get(SKU), (IDENTIFIER, None))
        others = (_text_in(each, (IDENTIFIER,)) for each in self.values.values())
        return {"sku": next((text for text in (main, *others) if text is not None), None)}


def _text_in(entries: Any, types: tuple[str | None, ...]) -> str | None:
    """Return the text of an attribute if it has one of these types; None for any other."""
    entry = entries[0] if isinstance(entries, list) and entries else None
    return as_short_text(member(entry, "data")) if member(entry, "attribute_type") in types else None


class ModelData(Sent):
    """A product model, with the values that the variants of a product have in common."""

    code: Id
    parent: IdOrNone = None
    updated: MomentOrNone = None

    def columns(self) -> dict[str, Any]:
        return {"sku": self.code} | self.news(parent="parent")


def _upsert(kind: str, external_id: str, thing: ProductData | ModelData, mirror: Mirror, at: datetime) -> None:
    table = Product if kind == "product" else Group
    mirror.upsert(table, external_id, at=at, **thing.columns(), data=thing.whole)


# ── the Event Platform: one thin event in a body ──────────────────────────────────────────────────────────────


@akeneo.envelope
def read(body: dict[str, Any]) -> Envelope:
    if "notification_type" in body and "type" not in body:
        # News about the subscription itself, signed in the same way. It has no id.
        at = moment_at(body, "timestamp")
        return Envelope(event_type=text_at(body, "notification_type"), entity=None, occurred_at=at, data=body)
    event_type = text_at(body, "type")
    return Envelope(
        event_type=event_type,
        entity=_named(event_type, body.get("data")),
        occurred_at=moment_at(body, "time"),
        data=body.get("data"),
        dedup_key=text_at(body, "id"),
    )


def _named(event_type: str, data: Any) -> tuple[str, str] | None:
    kind = event_type.removeprefix(PLATFORM).partition(".")[0]
    if kind == "product":
        named, members = member(data, "product"), ("uuid",)
        return entity_of(akeneo, event_type, kind, named, members, what="data.product")
    if kind == "product-model":
        named, members = member(data, "product_model"), ("code",)
        return entity_of(akeneo, event_type, kind, named, members, what="data.product_model")
    return None


@akeneo.compose
def write(event_type: str, entity_id: str, at: datetime, data: Any) -> dict[str, Any]:
    is_product = event_type.startswith(f"{PLATFORM}product.")
    named = {"product": {"uuid": entity_id}} if is_product else {"product_model": {"code": entity_id}}
    event_id = f"{event_type} {entity_id} {at.isoformat()}"
    return {"specversion": "1.0", "id": event_id, "type": event_type, "time": at, "data": {**named, **(data or {})}}


#: The events whose values are fetched. A subscription has `updated` or `updated.delta`, which also names the changed
#: values. Akeneo recommends the second one to those who come from the Events API.
UPSERTS = [
    f"{PLATFORM}{kind}.{what}"
    for kind in ("product", "product-model")
    for what in ("created", "updated", "updated.delta")
]


@akeneo.hydrate(*UPSERTS)
def fetch_thing(event: Event[Any], api: httpx.Client) -> ProductData | ModelData | str:
    return _thing(api, event.entity_kind, event.entity_id) or GONE


@akeneo.on(*UPSERTS)
def upsert_thing(event: Event[Any], mirror: Mirror) -> None:
    """Upsert a product or model. Without an `api_url`, the row exists without values."""
    table = Product if event.entity_kind == "product" else Group
    answer: ProductData | ModelData | str | None = event.hydrated
    if answer is None:
        mirror.upsert(table, event.entity_id)
    elif isinstance(answer, str):
        deactivate_gone(event, mirror, table)
    else:
        at = time_of_answer(event, mirror, table, answer.whole, answer.updated)
        _upsert(event.entity_kind, event.entity_id, answer, mirror, at)


@akeneo.on(f"{PLATFORM}product.deleted", f"{PLATFORM}product-model.deleted")
def deactivate_thing(event: Event[Any], mirror: Mirror) -> None:
    mirror.deactivate(Product if event.entity_kind == "product" else Group, event.entity_id)


# ── the Events API: up to ten full events in a body ───────────────────────────────────────────────────────────


@akeneo_events.envelope
def read_events(body: dict[str, Any]) -> Iterator[Envelope | Unreadable]:
    return each(list_at(body, "events"), read_event)


def read_event(event: dict[str, Any]) -> Envelope:
    action, resource = text_at(event, "action"), member(event, "data.resource")
    kind = action.partition(".")[0]
    members = {"product": ("uuid", "identifier"), "product_model": ("code",)}.get(kind)
    entity = entity_of(akeneo_events, action, kind, resource, members, what="data.resource") if members else None
    return Envelope(
        event_type=action,
        entity=entity,
        occurred_at=moment_at(event, "event_datetime"),
        data=resource,
        dedup_key=text_at(event, "event_id"),
    )


@akeneo_events.compose
def write_events(event_type: str, entity_id: str, at: datetime, data: Any) -> dict[str, Any]:
    name = "uuid" if event_type.startswith("product.") else "code"
    event = {"action": event_type, "event_id": f"{event_type} {entity_id} {at.isoformat()}", "event_datetime": at}
    return {"events": [{**event, "data": {"resource": {name: entity_id, **(data or {})}}}]}


@akeneo_events.on("product.created", "product.updated")
def upsert_product(event: Event[ProductData], mirror: Mirror) -> None:
    _upsert("product", event.entity_id, event.data, mirror, event.occurred_at)


@akeneo_events.on("product_model.created", "product_model.updated")
def upsert_model(event: Event[ModelData], mirror: Mirror) -> None:
    _upsert("product-model", event.entity_id, event.data, mirror, event.occurred_at)


@akeneo_events.on("product.removed", "product_model.removed")
def deactivate(event: Event[Any], mirror: Mirror) -> None:
    mirror.deactivate(Product if event.entity_kind == "product" else Group, event.entity_id)


# ── the API ───────────────────────────────────────────────────────────────────────────────────────────────────


@akeneo.connect
@akeneo_events.connect
def connect(source: SourceSettings) -> httpx.Client:
    """Make the client. `api_url` is the PIM's address with /api/rest/v1, `api_key` the access token of an app."""
    return client(source, headers={"Authorization": f"Bearer {required(source, 'api_key', source.api_key)}"})


class Page(Sent):
    items: list[Any]


def _thing(api: httpx.Client, kind: str, external_id: str) -> ProductData | ModelData | None:
    path = f"/{'products-uuid' if kind == 'product' else 'product-models'}/{segment(external_id)}"
    try:
        answer = fetch(api, path)
    except NotFoundError as error:
        # A 404 under a wrong api_url has another text, or is not JSON.
        if "does not exist" in (error.said or ""):
            return None
        raise
    if kind == "product":
        product = shaped(ProductData, answer, path)
        return of_id(external_id, product.uuid, product, path)
    model = shaped(ModelData, answer, path)
    return of_id(external_id, model.code, model, path)


@akeneo.pages(Product)
@akeneo_events.pages(Product)
def read_products(api: httpx.Client, start: str | None) -> ListPage:
    items, following = _page(api, "/products-uuid", start)
    rows = [_listed_product(shaped(ProductData, item, "/products-uuid")) for item in items]
    return ListPage(rows, next=following)


@akeneo.pages(Group)
@akeneo_events.pages(Group)
def read_models(api: httpx.Client, start: str | None) -> ListPage:
    items, following = _page(api, "/product-models", start)
    return ListPage([_listed_model(shaped(ModelData, item, "/product-models")) for item in items], next=following)


def _listed_product(product: ProductData) -> Listed:
    uuid = id_of(product.whole, ("uuid",), what="product")
    return Listed(Product, uuid, product.columns(), changed_at=product.updated)


def _listed_model(model: ModelData) -> Listed:
    return Listed(Group, model.code, model.columns(), changed_at=model.updated)


def _page(api: httpx.Client, path: str, start: str | None) -> tuple[list[Any], str | None]:
    """Read a page, and the `search_after` of the next one from the link to it."""
    after = {"search_after": start} if start else {}
    answer = patiently(lambda: fetch(api, path, pagination_type="search_after", limit=PAGE, **after))
    page = shaped(Page, {"items": member(answer, "_embedded.items")}, path)
    link = member(answer, "_links.next.href")
    return page.items, httpx.URL(link).params.get("search_after") if isinstance(link, str) else None


@akeneo.lookup(Product, Group)
@akeneo_events.lookup(Product, Group)
def ask(api: httpx.Client, wanted: Wanted) -> list[Listed]:
    kind = "product" if wanted.table is Product else "product-model"
    found = patiently(lambda: _thing(api, kind, wanted.external_id))
    if isinstance(found, ProductData):
        return [_listed_product(found)]
    return [] if found is None else [_listed_model(found)]
