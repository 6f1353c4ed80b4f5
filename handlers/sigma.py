"""Sigma PIM: thin events that name an entity or a variant. Its values are fetched from the API, if there is one.

Facts are from the Sigma docs (Webhooks: "Webhook Payload Shape", "Available Events", "HMAC Verification",
"Idempotency"); facts about the API are from the vendor's other pages (docs/sources.md). The members of `data` are
published only for `entity.updated` and `entity.transition`, so all except the id are optional.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

import httpx
from pydantic import BaseModel, Field

from handlers.api import (
    NotFoundError,
    client,
    fetch,
    fetch_patiently,
    required,
    segment,
    shaped,
    wait_for_api,
)
from handlers.catalog import CatalogRow, Product, Variant
from handlers.entities import entity_of
from handlers.values import Id, IdOrNone, Moment, MomentOrNone, Sent, Text, as_price, as_short_text, as_text
from receiver import (
    ApiError,
    Dialect,
    Envelope,
    Event,
    HmacSha256,
    Listed,
    ListPage,
    Mirror,
    MirrorRow,
    SourceSettings,
    Wanted,
)
from receiver.codec import canonical, is_same

#: The members of `data` that may have the id, by the part of the event type before the dot. Only `entityId` is
#: published.
ID_MEMBERS = {"entity": ("entityId", "id"), "variant": ("variantId", "id")}

PAGE = 100  #: rows in one page; the vendor's default is 50, and its largest page is unknown

#: The result of a hydrate function for an entity that the source does not have.
GONE: Final = "gone"

#: A record may be updated this much earlier than the time of its event, because of rounding and of the time that the
#: sender takes to make the event.
SAME = timedelta(seconds=1)

#: Sigma docs, "HMAC Verification": the header has a prefix, and is sent only if the webhook has a secret.
sigma = Dialect(
    "sigma",
    verify=HmacSha256(header="X-Sigma-Signature", prefix_required=True),
    keep_headers=("X-Sigma-Event", "X-Sigma-Delivery"),
)


class Body(BaseModel):
    """Sigma docs, "Webhook Payload Shape"."""

    event: str
    #: The id of the delivery, the same in every retry (Sigma docs, "Idempotency").
    delivery_id: Id | None = Field(None, alias="deliveryId")
    timestamp: Moment
    data: Any = None


class EntityData(Sent):
    lifecycle_state: Text = Field(None, alias="lifecycleState")
    #: A transition has this member instead.
    to_state: Text = Field(None, alias="toState")

    def state(self) -> dict[str, Any]:
        return self.news(lifecycle_state="lifecycle_state") | self.news(lifecycle_state="to_state")


class VariantData(Sent):
    parent: IdOrNone = Field(None, alias="entityId")


class EntityRecord(Sent):
    """A RECORD of the API, or a variant of it. `values` is complete: `{alias: [{"scope": {…}, "value": …}]}`."""

    id: Id
    #: The id of a variant's record.
    entity_id: Id | None = Field(None, alias="entityId")
    values: dict[str, Any]
    updated_at: MomentOrNone = Field(None, alias="updatedAt")

    def columns(self) -> dict[str, Any]:
        """Return all columns. The record is complete, so an alias that it does not have means None."""
        price, currency = self._price()
        return {
            "sku": as_short_text(self._value("sku")),
            "name": as_text(self._value("name")),
            "price": as_price(price),
            "currency": as_text(currency),
            "data": self.whole,
        }

    def _price(self) -> tuple[Any, Any]:
        price, currency = self._value("price"), self._value("currency")
        if not isinstance(price, dict):
            return price, currency
        return price.get("amount"), currency or price.get("currency")

    def _value(self, alias: str) -> Any:
        """Return an attribute's value in the global scope, `{}`."""
        entries = self.values.get(alias)
        for entry in entries if isinstance(entries, list) else []:
            if isinstance(entry, dict) and not entry.get("scope"):
                return entry.get("value")
        return None


class RecordPage(Sent):
    items: list[EntityRecord]
    total: int


@sigma.envelope
def read(body: Body) -> Envelope:
    return Envelope(
        event_type=body.event,
        entity=_entity(body),
        occurred_at=body.timestamp,
        data=body.data,
        dedup_key=body.delivery_id,
    )


def _entity(body: Body) -> tuple[str, str] | None:
    kind = body.event.partition(".")[0]
    members = ID_MEMBERS.get(kind)
    if members is None:
        return None
    return entity_of(sigma, body.event, kind, body.data, members, what="data")


@sigma.compose
def write(event_type: str, entity_id: str, at: datetime, data: Any) -> dict[str, Any]:
    member = ID_MEMBERS.get(event_type.partition(".")[0], ("entityId",))[0]
    data = {**(data or {}), member: entity_id}
    # The same event composed twice is one delivery, as a retry of the sender is.
    digest = hashlib.sha256(canonical([event_type, at, data])).hexdigest()
    return {"event": event_type, "deliveryId": f"del-{digest[:12]}", "timestamp": at, "data": data}


@sigma.on("entity.created", "entity.updated", "entity.transition")
def upsert_entity(event: Event[EntityData], mirror: Mirror) -> None:
    _wait_for_record(event, mirror, Product)
    mirror.upsert(Product, event.entity_id, **event.data.state(), **_own_data(event))
    if event.hydrated == GONE:
        mirror.deactivate(Product, event.entity_id)
    elif event.hydrated is not None:
        record: EntityRecord = event.hydrated
        # The record was read after the event and may be newer, so it has its own time.
        mirror.upsert(Product, event.entity_id, at=record.updated_at, **record.columns())


@sigma.on("entity.deleted")
def deactivate_entity(event: Event[None], mirror: Mirror) -> None:
    mirror.deactivate(Product, event.entity_id)


@sigma.on("variant.created", "variant.updated")
def upsert_variant(event: Event[VariantData], mirror: Mirror) -> None:
    _wait_for_record(event, mirror, Variant)
    mirror.upsert(Variant, event.entity_id, **event.data.news(parent="parent"), **_own_data(event))
    if event.hydrated == GONE:
        mirror.deactivate(Variant, event.entity_id)
    elif event.hydrated is not None:
        mirror.upsert(Variant, event.entity_id, **event.hydrated.columns())


@sigma.on("variant.deleted")
def deactivate_variant(event: Event[None], mirror: Mirror) -> None:
    mirror.deactivate(Variant, event.entity_id)


def _wait_for_record(event: Event[Any], mirror: Mirror, table: type[CatalogRow]) -> None:
    """Raise `Retry` while the API seems to be behind the event (docs/sources.md, Sigma PIM, Traps)."""
    if event.hydrated == GONE:
        row = mirror.get(table, event.entity_id)
        # If the row is active, the entity is gone. An unknown entity may still appear, unless its parent is gone.
        if (row is None or not row.active) and not _went_with_parent(event, mirror, table):
            wait_for_api(event, row, "it does not have the record yet")
    elif (age := _age(event)) > timedelta():
        row = mirror.get(table, event.entity_id)
        # If the mirror already has this record, the record does not have the event's change yet.
        if age > SAME or (row is not None and is_same(row.data, event.hydrated.whole)):
            wait_for_api(event, row, f"its record is {age.total_seconds():.3f} seconds older")


def _went_with_parent(event: Event[Any], mirror: Mirror, table: type[CatalogRow]) -> bool:
    """Whether newer news deactivated the product of the variant."""
    parent = mirror.get(Product, event.data.parent) if table is Variant and event.data.parent is not None else None
    return parent is not None and not parent.active and parent.changed_at > event.occurred_at


def _age(event: Event[Any]) -> timedelta:
    """Return how much earlier than the event the record was updated; zero if that is unknown or does not matter."""
    record: EntityRecord | None = event.hydrated
    # A transition may leave the record unchanged.
    if record is None or record.updated_at is None or event.event_type.endswith(".transition"):
        return timedelta()
    return event.occurred_at - record.updated_at


def _own_data(event: Event[Any]) -> dict[str, Any]:
    """Return the event's own data as the column `data` if the source has no API."""
    return {"data": event.data.whole} if event.hydrated is None else {}


@sigma.connect
def connect(source: SourceSettings) -> httpx.Client:
    """Make the client. `api_url` ends in `/api/v1`, and `api_key` is "sigma_sk_live_…" (docs/sources.md, Sigma PIM)."""
    return client(source, headers={"X-Sigma-ApiKey": required(source, "api_key", source.api_key)})


@sigma.hydrate("entity.created", "entity.updated", "entity.transition")
def fetch_record(event: Event[Any], api: httpx.Client) -> EntityRecord | str:
    return _fetch(api, f"/records/{segment(event.entity_id)}", event.entity_id)


@sigma.hydrate("variant.created", "variant.updated")
def fetch_variant(event: Event[VariantData], api: httpx.Client) -> EntityRecord | str | None:
    """Fetch a variant by its record; None if the event does not name the record."""
    if event.data.parent is None:
        return None
    path = f"/records/{segment(event.data.parent)}/variants/{segment(event.entity_id)}"
    return _fetch(api, path, event.entity_id)


def _fetch(
    api: httpx.Client, path: str, wanted: str, *, fetch: Callable[[httpx.Client, str], Any] = fetch
) -> EntityRecord | str:
    try:
        record = shaped(EntityRecord, fetch(api, path), path)
    except NotFoundError as error:
        # Only the API's own NOT_FOUND counts: a web server's 404 under a wrong api_url would empty the mirror.
        if error.has_code("NOT_FOUND", "error"):
            return GONE
        raise
    if record.id != wanted:
        raise ApiError(f"{path} of the source's API answered with the record of another id.")
    return record


@sigma.pages(Product)
def read_records(api: httpx.Client, start: int | None) -> ListPage:
    page, following = _page(api, "/records", start or 0)
    return ListPage([_listed(Product, record) for record in page.items], following, page.total)


@sigma.pages(Variant)
def read_variants(api: httpx.Client, start: int | None) -> ListPage:
    page, following = _page(api, "/variants", start or 0)
    return ListPage([_listed(Variant, record) for record in page.items], following, page.total)


@sigma.lookup(Product, Variant)
def ask(api: httpx.Client, wanted: Wanted) -> list[Listed]:
    path = f"/records/{segment(wanted.external_id)}"
    if wanted.table is Variant:
        if wanted.parent is None:
            raise ApiError(
                f"The API gives a variant only by its record, and the mirror has no record for {wanted.external_id!r}: "
                "reconcile the source instead."
            )
        path = f"/records/{segment(wanted.parent)}/variants/{segment(wanted.external_id)}"
    found = _fetch(api, path, wanted.external_id, fetch=fetch_patiently)
    return [_listed(wanted.table, found)] if isinstance(found, EntityRecord) else []


def _listed(table: type[MirrorRow], record: EntityRecord) -> Listed:
    parent = {"parent": record.entity_id} if table is Variant and record.entity_id is not None else {}
    return Listed(table, record.id, record.columns() | parent, changed_at=record.updated_at)


def _page(api: httpx.Client, path: str, offset: int) -> tuple[RecordPage, int | None]:
    """Read a page, and the offset of the next one. The order is not documented (docs/sources.md, Sigma PIM, Traps)."""
    page = shaped(RecordPage, fetch_patiently(api, path, offset=offset, limit=PAGE), path)
    end = offset + len(page.items)
    return page, end if page.items and end < page.total else None
