"""Events that a sender adds later: they are ignored in every form, and never dead for an id that they do not have."""

from __future__ import annotations

from typing import Any

import pytest
from vendor_bodies import kept

from handlers.iimmpact import iimmpact
from handlers.indexed import indexed
from handlers.sigma import sigma
from handlers.sticky import sticky
from receiver import Dialect, Envelope, Unreadable
from receiver.envelope import Bundle
from vendors.akeneo import PLATFORM, akeneo, akeneo_events
from vendors.bigcommerce import bigcommerce
from vendors.github import github
from vendors.shopify import shopify
from vendors.standard import standard
from vendors.stripe import stripe

NOON = "2026-06-01T12:00:00Z"
JOB: dict[str, Any] = {"job": "j1"}
STICKY = {"clientAppKey": "k", "type": "bulk.variant.imported", "time": "2026-06-01 08:00:00"}
PLATFORM_EVENT = {"id": "e1", "type": f"{PLATFORM}product.exported", "time": NOON, "data": {"product": JOB}}
OLD_EVENT = {"action": "product.exported", "event_id": "e1", "event_datetime": NOON, "data": {"resource": JOB}}

UNKNOWN: list[tuple[Dialect, dict[str, Any]]] = [
    (sigma, {"event": "entity.bulkImported", "deliveryId": "d1", "timestamp": NOON, "data": JOB}),
    (sigma, {"event": "variant.reordered", "deliveryId": "d1", "timestamp": NOON, "data": {"entityId": "e1"}}),
    (indexed, {"event": "product.imported", "timestamp": NOON, "product": JOB}),
    (iimmpact, {"type": "product.reindexed", "resource": "products", "timestamp": NOON, "data": None}),
    (sticky, STICKY | {"data": {"object": []}}),
    (sticky, STICKY | {"data": {"object": [{"id": 1}, JOB]}}),
    (standard, {"type": "product.import.finished", "timestamp": NOON, "data": ["j1"]}),
    (stripe, {"id": "evt_1", "type": "product.imported", "created": 1780000000, "data": {"object": JOB}}),
    (stripe, {"id": "evt_1", "type": "v1.product.imported", "created": NOON, "related_object": None}),
    (bigcommerce, {"scope": "store/product/imported", "data": {"type": "product"}, "created_at": 1780000000}),
    (akeneo, PLATFORM_EVENT),
    (akeneo, PLATFORM_EVENT | {"type": f"{PLATFORM}product-model.exported"}),
    (akeneo_events, {"events": [OLD_EVENT]}),
    (github, {"action": "scanned", "release": JOB}),
    (shopify, {"admin_graphql_api_id": "gid://shopify/Refund/7", "created_at": NOON}),
]


@pytest.mark.parametrize(("dialect", "body"), UNKNOWN, ids=lambda value: getattr(value, "name", ""))
def test_an_event_of_an_unknown_type_needs_no_entity(dialect: Dialect, body: dict[str, Any]):
    read: Envelope | Bundle = dialect.read(kept(dialect, body))
    envelope = read.item(0) if isinstance(read, Bundle) else read
    assert dialect.handler_for(envelope.event_type) is None
    assert envelope.entity is None


def test_a_shopify_body_without_a_time_is_unreadable_for_a_handler_of_its_kind(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shopify, "handler_for", lambda _: object())
    with pytest.raises(Unreadable, match="updated_at"):
        shopify.read(kept(shopify, {"id": 7, "admin_graphql_api_id": "gid://shopify/Collection/7"}))


def test_an_event_of_an_unknown_type_keeps_the_entity_that_it_names():
    body = {"event": "entity.locked", "deliveryId": "d1", "timestamp": NOON, "data": {"entityId": "e1"}}
    read = sigma.read(kept(sigma, body))
    assert isinstance(read, Envelope)
    assert read.entity == ("entity", "e1")
