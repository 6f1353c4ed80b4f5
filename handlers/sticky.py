"""sticky.io: encrypted events with full snapshots of products, or with changes of one or many variants.

Facts are from the sticky.io guide to product webhooks ("Event Details", "Understanding the Payload"). Facts about the
variant families, the cipher and the API are from the vendor's other pages (docs/sources.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import httpx
from pydantic import BaseModel, Discriminator, Field, RootModel, Tag

from handlers.api import NotFoundError, client, fetch_patiently, required, segment, shaped
from handlers.catalog import Product, Variant
from handlers.eastern import is_second_reading, read_eastern, write_eastern
from handlers.values import Id, IdOrNone, Price, RelatedId, Sent, ShortText, Text, as_moment_or_none, id_of
from receiver import (
    ApiError,
    Dialect,
    EncryptedBody,
    Envelope,
    Event,
    Listed,
    ListPage,
    Mirror,
    SourceSettings,
    Unreadable,
    Wanted,
)
from receiver.codec import canonical

#: The members of the test event, which has no `type`, no time and no application key (docs/sources.md, sticky.io).
TEST = frozenset({"message", "reference", "URL"})

#: The time of the test event, which has none of its own. Any constant will do, because no handler takes the event.
NO_TIME = datetime(2000, 1, 1, tzinfo=UTC)

#: The entity kind of each family of event types. In a bulk event, `data.object` is an array.
FAMILIES = {"product": "product", "variant": "variant", "bulk.variant": "variant"}

#: The application key of composed bodies, from the guide's samples.
SAMPLE_APP_KEY = "app_key_here"

sticky = Dialect("sticky", verify=EncryptedBody(app_key_member="clientAppKey", keyless=TEST))


class Change(BaseModel):
    object: Any
    correlation_id: Id | None = Field(None, alias="correlationId")


class Announcement(BaseModel):
    """An event other than the test event (sticky.io guide, "Understanding the Payload")."""

    type: str
    #: The time of change in US Eastern, in whole seconds and without an offset.
    time: str
    data: Change


class TestEvent(Sent):
    __test__ = False  # pytest must not collect it as a test


def _shape(body: Any) -> str:
    return "test" if isinstance(body, dict) and "type" not in body and body.keys() >= TEST else "announcement"


class Body(RootModel[Any]):
    root: Annotated[
        Annotated[TestEvent, Tag("test")] | Annotated[Announcement, Tag("announcement")], Discriminator(_shape)
    ]


@sticky.envelope
def read(body: Body) -> Envelope:
    if isinstance(body.root, TestEvent):
        return Envelope(event_type="test", entity=None, occurred_at=NO_TIME, data=body.root.whole)
    return _read_announcement(body.root)


def _read_announcement(body: Announcement) -> Envelope:
    family, _, verb = body.type.rpartition(".")
    kind = FAMILIES.get(family)
    content = body.data.object
    objects = content if isinstance(content, list) else [content]
    ids = _ids(body.type, objects) if kind else []
    return Envelope(
        event_type=body.type,
        entity=(kind, ids[0]) if kind and ids else None,
        occurred_at=_occurred_at(body.time, objects, gone=verb == "deleted"),
        data=objects if kind == "variant" else content,
        dedup_key=_dedup_key(body, ids),
        fingerprint=_fingerprint(body),
        fingerprint_covers_time=True,
    )


def _ids(event_type: str, objects: list[Any]) -> list[str]:
    """Return the ids of all objects; none if one has no id and no handler takes the event. Raises `Unreadable`."""
    try:
        if not objects:
            raise Unreadable("`data.object` is an empty list, so it does not say what changed.")
        return [id_of(each, ("id",), what="data.object") for each in objects]
    except Unreadable:
        if sticky.handler_for(event_type) is None:
            return []
        raise


def _occurred_at(text: str, objects: list[Any], *, gone: bool) -> datetime:
    try:
        return read_eastern(text, updated=_updates(objects), gone=gone)
    except (ValueError, OverflowError):
        raise Unreadable("`time` is not a time like 2024-12-18 11:17:23.") from None


def _updates(objects: list[Any]) -> Iterator[datetime]:
    """Yield the times of change that the objects themselves give."""
    for each in objects:
        moment = as_moment_or_none(each.get("updated_at")) if isinstance(each, dict) else None
        if moment is not None:
            yield moment


def _dedup_key(body: Announcement, ids: list[str]) -> str | None:
    """Return the dedup key: the correlation id with type and ids, since a bulk action's events may share the id."""
    if body.data.correlation_id is None:
        return None
    return canonical([body.data.correlation_id, body.type, *sorted(ids)]).decode()


def _fingerprint(body: Announcement) -> bytes:
    """Hash a body without `data.id`, which may differ in a redelivery (docs/sources.md).

    What is hashed includes everything of which `_occurred_at` makes the time.
    """
    announced = {"type": body.type, "time": body.time, "object": body.data.object}
    return hashlib.sha256(canonical(announced)).digest()


@sticky.compose
def write(event_type: str, entity_id: str, at: datetime, data: Any) -> dict[str, Any]:
    """Write a body with its times in whole seconds, as sticky.io does."""
    time = write_eastern(at)
    content = _object(event_type, entity_id, at, data)
    digest = hashlib.sha256(canonical([event_type, time, content])).hexdigest()
    change = {
        "id": digest[:32],
        "object": content,
        "created": time,
        "triggeringEvent": "",
        "correlationId": digest[32:],
    }
    return {"clientAppKey": SAMPLE_APP_KEY, "type": event_type, "time": time, "data": change}


def _object(event_type: str, entity_id: str, at: datetime, data: Any) -> Any:
    if isinstance(data, list):
        return data
    content: dict[str, Any] = (
        {"updated_at": at} if is_second_reading(at) and not event_type.endswith(".deleted") else {}
    )
    content |= {**(data or {}), "id": _number(entity_id)}
    return [content] if event_type.startswith("bulk.") else content


def _number(entity_id: str) -> int | str:
    """Return the id as a number, as sticky.io writes ids, if the number reads back as the same id."""
    is_number = entity_id.isascii() and entity_id.isdecimal() and str(int(entity_id)) == entity_id
    return int(entity_id) if is_number else entity_id


class VariantData(Sent):
    id: Id
    sku_num: ShortText = None
    price: Price = None
    attributes: Any = None
    #: The guide's samples do not have it, because they show variants inside products.
    product_id: IdOrNone = None

    def columns(self) -> dict[str, Any]:
        name = {"name": self._name()} if "attributes" in self.model_fields_set else {}
        return name | self.news(sku="sku_num", price="price") | self._parent()

    def _name(self) -> str | None:
        """Return the variant's options as its name: "blue / small"."""
        attributes = self.attributes if isinstance(self.attributes, list) else []
        return " / ".join(filter(None, map(_option_name, attributes))) or None

    def _parent(self) -> dict[str, str]:
        return {} if self.product_id is None else {"parent": self.product_id}


def _option_name(attribute: Any) -> str | None:
    for member in ("attribute", "option", "name"):
        attribute = attribute.get(member) if isinstance(attribute, dict) else None
    return attribute if isinstance(attribute, str) else None


class ProductData(Sent):
    """A product or a bundle. A bundle has no variants."""

    sku: ShortText = None
    name: Text = None
    price: Price = None
    category: RelatedId = None
    variants: list[VariantData] | None = None
    #: The time in the form of REST v2.
    updated_at: Any = None

    def columns(self) -> dict[str, Any]:
        return self.news(sku="sku", name="name", price="price", parent="category")


@sticky.on("product.created", "product.updated")
def upsert_product(event: Event[ProductData], mirror: Mirror) -> None:
    mirror.upsert(Product, event.entity_id, **event.data.columns(), data=event.data.whole)
    if event.data.variants is None:
        return
    for variant in event.data.variants:
        mirror.upsert(Variant, variant.id, **variant.columns() | {"parent": event.entity_id}, data=variant.whole)
    mirror.keep_only(Variant, [variant.id for variant in event.data.variants], parent=event.entity_id)


@sticky.on("product.deleted")
def deactivate_product(event: Event[Any], mirror: Mirror) -> None:
    mirror.deactivate(Product, event.entity_id)


@sticky.on("variant.created", "variant.updated", "bulk.variant.created", "bulk.variant.updated")
def upsert_variants(event: Event[list[VariantData]], mirror: Mirror) -> None:
    for variant in event.data:
        mirror.upsert(Variant, variant.id, **variant.columns(), data=variant.whole)


@sticky.on("variant.deleted", "bulk.variant.deleted")
def deactivate_variants(event: Event[list[VariantData]], mirror: Mirror) -> None:
    for variant in event.data:
        mirror.deactivate(Variant, variant.id)


class ProductPage(Sent):
    status: str
    data: list[dict[str, Any]]
    last_page: int
    total: int


class Answer(Sent):
    status: str
    data: ProductData


@sticky.connect
def connect(source: SourceSettings) -> httpx.Client:
    """Make the client. `api_url` is the part before `/api/v2`, `api_key` the user, and `api_secret` the password."""
    user = required(source, "api_key", source.api_key)
    password = required(source, "api_secret", source.api_secret)
    return client(source, auth=httpx.BasicAuth(user, password))


@sticky.pages(Product, Variant, names_only=True)
def read_ids(api: httpx.Client, start: int | None) -> ListPage:
    """Read a page of ids. Products are asked for afterwards, because a slower walk would often see the list change."""
    path, number = "/api/v2/products", start or 1
    page = shaped(ProductPage, fetch_patiently(api, path, page=number), path)
    _expect_success(page.status, path)
    rows = [Listed(Product, id_of(each, ("id",), what="data"), {}) for each in page.data]
    return ListPage(rows, number + 1 if number < page.last_page else None, page.total)


@sticky.lookup(Product, Variant)
def ask(api: httpx.Client, wanted: Wanted) -> list[Listed]:
    """Look up a row without `data`, whose form differs from the webhooks' (docs/sources.md, sticky.io, REST v2)."""
    if wanted.table is Product:
        return _product(api, wanted.external_id)
    if wanted.parent is None:
        raise ApiError(
            f"The API gives a variant only by its product, and the mirror has no product for {wanted.external_id!r}: "
            "reconcile the source instead."
        )
    rows = _product(api, wanted.parent)
    return [row for row in rows if row.table is Variant and row.external_id == wanted.external_id]


def _product(api: httpx.Client, identity: str) -> list[Listed]:
    """Fetch a product with its variants; an empty list if it is deleted."""
    path = f"/api/v2/products/{segment(identity)}"
    try:
        answer = shaped(Answer, fetch_patiently(api, path), path)
    except NotFoundError as error:
        # Only the API's own answer counts: a web server's 404 under a wrong api_url would empty the mirror.
        if error.is_json:
            return []
        raise
    _expect_success(answer.status, path)
    changed_at = _moment(answer.data.updated_at)
    product = Listed(Product, identity, answer.data.columns(), changed_at=changed_at)
    variants = answer.data.variants or []
    return [product, *(Listed(Variant, each.id, each.columns() | {"parent": identity}) for each in variants)]


def _moment(time: Any) -> datetime | None:
    """Read a time of REST v2, `{date, timezone_type, timezone}` (docs/sources.md, sticky.io); None if not valid."""
    if not isinstance(time, dict) or time.get("timezone") != "America/New_York":
        return None
    try:
        return read_eastern(str(time.get("date")).partition(".")[0])
    except (ValueError, OverflowError):
        return None


def _expect_success(status: str, path: str) -> None:
    if status != "SUCCESS":
        raise ApiError(f"{path} of the source's API says {status[:40]!r} instead of SUCCESS.")
