"""A sender of Standard Webhooks: the signed id, the time of change, and the allowed data."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from vendor_bodies import rows_of, says_why

from handlers.catalog import Product
from vendors.standard import standard

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def hook(**parts):
    return {"type": "product.updated", "timestamp": "2026-06-01T12:00:00Z", "data": {"id": "p-1"}} | parts


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"[]", "dict"),
        ({}, "`type` is missing"),
        (hook(timestamp="2026-06-01T12:00:00"), "needs its offset"),
        (hook(timestamp=1780000000), "ISO 8601"),
        (hook(timestamp=None), "`timestamp` is not the time of a change"),
        (hook(data=None), "has no id"),
        (hook(data={"id": False}), "is not a valid id"),
        (hook(data={"id": "x" * 513}), "is not a valid id"),
        (hook(type="variant.updated", data={"id": "v-1", "product_id": ""}), "product_id"),
    ],
)
def test_an_unreadable_body_has_its_reason(body, says):
    says_why(standard, body, says)


@pytest.mark.parametrize(("price", "kept"), [("19.90", "19.90"), (19.90, "19.9"), ("19,90", None), (None, None)])
def test_a_price_is_exact_as_number_or_text_and_otherwise_null(price, kept):
    row = rows_of(standard, hook(data={"id": 9007199254740993, "price": price}))["products", "9007199254740993"]
    assert row["price"] == (None if kept is None else Decimal(kept))


def test_an_unsigned_webhook_is_read_without_its_signed_id(webhooks):
    webhooks.source("standard", secrets=[], allow_unsigned=True)
    body = b'{"type": "product.created", "timestamp": "2026-06-01T12:00:00Z", "data": {"id": "p-1"}}'
    sent = [webhooks.post("standard", body).body["status"] for _ in range(2)]
    webhooks.drain()
    assert (sent, webhooks.row(Product, "p-1").active) == (["accepted", "duplicate"], True)


def test_the_signed_id_makes_a_repetition_a_duplicate(webhooks):
    body = b'{"type": "product.created", "timestamp": "2026-06-01T12:00:00Z", "data": {"id": "p-1"}}'
    sent = [webhooks.send_body("standard", body, headers={"webhook-id": name}) for name in ("m1", "m1", "m2")]
    assert [answer.body["status"] for answer in sent] == ["accepted", "duplicate", "accepted"]


def test_a_late_update_does_not_revive(webhooks):
    webhooks.send("standard", "product.deleted", id="p-1", at=NOON)
    webhooks.send("standard", "product.updated", id="p-1", at=NOON - timedelta(minutes=1), data={"name": "Lamp"})
    webhooks.drain()
    assert not webhooks.row(Product, "p-1").active
