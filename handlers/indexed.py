"""Indexed PIM: events with the scalars of an entity, for every kind of entity that the system has.

Facts are from the Indexed docs, page Webhooks ("Envelope fields", "Entity section", "Example shape", "Available event
families", "Signed requests"), and from docs/sources.md, which says what follows from them. The spelling of two-word
names is not published, so every spelling is read. No API for reading is known, so the dialect has no hydrate function,
no listing and no lookup.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import Any

import msgspec

from handlers.catalog import CatalogRow, Category, Group, Product, Record
from handlers.entities import entity_of
from handlers.values import MomentOrNone, Price, Sent, ShortText, Text, as_id_or_none
from receiver import Dialect, Envelope, Event, HmacSha256, Mirror, Patch, Unreadable
from receiver.codec import canonical

#: The kinds that have a table of their own. Every other kind is in the table of `Record`.
TABLES: dict[str, type[CatalogRow]] = {"product": Product, "category": Category, "product_group": Group}

#: The members that may hold an entity's id, best first. In a delete, the numeric id may be null. An app has
#: `external_id`, because the body has the app's entity and the sending app under one key.
ID_MEMBERS = ("externalId", "external_id", "id")

#: The docs say `product.updated` in the text, and `product.update` in the picture of the configuration.
CHANGES = ("*.created", "*.updated", "*.create", "*.update")
DELETES = ("*.deleted", "*.delete")

#: The members of a body that are not the entity (Indexed docs, "Envelope fields").
CONTEXT = frozenset({"event", "timestamp", "account", "app", "webhook", "revision"})

_WORD_END = re.compile(r"[\W_]+|(?<=[a-z0-9])(?=[A-Z])")


class _Webhook(msgspec.Struct):
    external_id: str | None = None


class _Hint(msgspec.Struct):
    webhook: _Webhook | None = None


_hints = msgspec.json.Decoder(_Hint)


def webhook_of(body: bytes) -> str | None:
    """Return the id of the webhook record that an unverified body names, or None. It never raises."""
    try:
        found = _hints.decode(body)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None
    return found.webhook.external_id if found.webhook else None


#: Indexed docs, "Signed requests": HMAC-SHA256 of the raw JSON, and a secret for each webhook record. The docs do not
#: say how the signature is encoded.
indexed = Dialect("indexed", verify=HmacSha256(header="X-Webhook-Signature", hint=webhook_of))


class Revision(Sent):
    timestamp: MomentOrNone = None


class Body(Sent):
    """Indexed docs, "Example shape"."""

    event: str
    #: The time of dispatch, which is later than the change.
    timestamp: MomentOrNone = None
    #: The latest revision, for products.
    revision: Any = None

    def changed_at(self) -> datetime | None:
        """Return the time of the revision, which identifies the change; None without a revision."""
        return Revision.model_validate(self.revision).timestamp if isinstance(self.revision, dict) else None


class Entity(Sent):
    """The members of an entity of any kind that have a column."""

    name: Text = None
    title: Text = None
    sku: ShortText = None
    price: Price = None
    currency: Any = None
    status: Any = None

    def columns(self) -> dict[str, Any]:
        """Return the columns of the members that were sent. A missing member says nothing about its column."""
        name = self.news(name="title") | self.news(name="name")
        return (
            name | self.news(sku="sku", price="price") | self._when_text(currency="currency", lifecycle_state="status")
        )

    def _when_text(self, **fields: str) -> dict[str, Any]:
        """Return the columns whose values are text or null. A currency or status that is a relation is skipped."""
        return {name: value for name, value in self.news(**fields).items() if value is None or isinstance(value, str)}

    def parent(self, member: str) -> dict[str, Any]:
        relation = self.whole.get(member, ...)
        if relation is None:
            return {"parent": None}
        if not isinstance(relation, dict) or not any(map(relation.get, ID_MEMBERS)):
            return {}
        ids = map(as_id_or_none, map(relation.get, ID_MEMBERS))
        return {"parent": next((each for each in ids if each is not None), None)}


@indexed.envelope
def read(body: Body) -> Envelope:
    changed_at = body.changed_at()
    occurred_at = changed_at or body.timestamp
    if occurred_at is None:
        raise Unreadable("Neither `revision.timestamp` nor `timestamp` is an ISO 8601 time with its offset.")
    kind = kind_of(body.event)
    entity = _entity(body.whole, body.event.partition(".")[0])
    return Envelope(
        event_type=body.event,
        entity=entity_of(indexed, body.event, kind, entity, ID_MEMBERS, what=kind),
        occurred_at=occurred_at,
        data=entity,
        fingerprint=_fingerprint(body.whole) if changed_at else None,
    )


def kind_of(event_type: str) -> str:
    """Return the kind in lower snake case: productGroup, product-group and "product group" are all product_group."""
    return _snake(event_type.partition(".")[0])


def _entity(body: dict[str, Any], prefix: str) -> Any:
    """Find the object under the event's prefix, in any spelling (Indexed docs, "Entity section")."""
    if prefix in body:
        return body[prefix]
    spellings = (key for key in body if key not in CONTEXT and _snake(key) == _snake(prefix))
    return body.get(next(spellings, ""))


def _fingerprint(body: dict[str, Any]) -> bytes:
    """Hash a body without `webhook` and `timestamp`: two webhook records send one change twice (docs/sources.md)."""
    same = {key: value for key, value in body.items() if key not in ("webhook", "timestamp")}
    return hashlib.sha256(canonical(same)).digest()


def _snake(name: str) -> str:
    return _WORD_END.sub("_", name).strip("_").lower()


@indexed.compose
def write(event_type: str, entity_id: str, at: datetime, data: Any) -> dict[str, Any]:
    key, _, verb = event_type.partition(".")
    entity = {**(data or {}), "externalId": entity_id}
    revision = (
        {"revision": {"action": verb, "timestamp": at, "changes": []}} if kind_of(event_type) == "product" else {}
    )
    return {"event": event_type, "timestamp": at, key: entity, **revision}


@indexed.on(*CHANGES)
def upsert(event: Event[Entity], mirror: Mirror) -> None:
    table, external_id, kind = _place(event)
    parent = event.data.parent("category" if table is Product else "parent")
    mirror.upsert(table, external_id, **event.data.columns(), **parent, **kind, data=Patch(event.data.whole))


@indexed.on(*DELETES)
def deactivate(event: Event[Any], mirror: Mirror) -> None:
    table, external_id, _ = _place(event)
    mirror.deactivate(table, external_id)


def _place(event: Event[Any]) -> tuple[type[CatalogRow], str, dict[str, Any]]:
    """Return the table, the external id in it, and the `kind` if the table has that column."""
    kind = event.entity_kind
    table = TABLES.get(kind)
    if table is not None:
        return table, event.entity_id, {}
    return Record, f"{kind}:{event.entity_id}", {"kind": kind}
