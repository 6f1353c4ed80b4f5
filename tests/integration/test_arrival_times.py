"""A change whose body has no time counts at its arrival, in every attempt and replay."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from shopping import NOON, drain

from handlers.catalog import Product
from receiver import ARRIVAL, Dialect, Envelope, Event, HmacSha256, Mirror
from receiver.errors import NotVerified
from receiver.inbox.refused import Bounds
from receiver.ingest.admission import Request
from receiver.ingest.keeping import Keeper
from receiver.ingest.reverifying import verify_again
from receiver.verify.request import WebhookRequest
from receiver.verify.verifiers import Credentials, Secret

DELETED = b'{"id": 7}'


@pytest.fixture
def shop() -> Dialect:
    """Make a dialect like those of Shopify and WooCommerce: a delete is only `{"id": …}`."""
    shop = Dialect("shop", verify=HmacSha256(header="X-Webhook-Signature"))

    @shop.envelope
    def read(body: dict) -> Envelope:
        product = ("product", str(body["id"]))
        if body.keys() == {"id"}:
            return Envelope(event_type="product.deleted", entity=product, occurred_at=ARRIVAL, data=None)
        changed = datetime.fromisoformat(body["updated_at"])
        return Envelope(event_type="product.updated", entity=product, occurred_at=changed, data=body)

    @shop.on("product.updated")
    def upsert(event: Event[dict], mirror: Mirror) -> None:
        mirror.upsert(Product, event.entity_id, name=event.data["name"])

    @shop.on("product.deleted")
    def deactivate(event: Event[None], mirror: Mirror) -> None:
        mirror.deactivate(Product, event.entity_id)

    return shop


def updated(at: datetime, name: str = "Lamp") -> bytes:
    return f'{{"id": 7, "updated_at": "{at.isoformat()}", "name": "{name}"}}'.encode()


def test_a_delete_without_a_time_counts_at_its_arrival(kit, worker):
    before = datetime.now(UTC)
    kit.send_body("shop", updated(NOON))
    answer = kit.send_body("shop", DELETED)
    drain(worker)
    delivery = kit.delivery(answer)
    assert before <= delivery["received_at"] <= datetime.now(UTC)
    assert delivery["occurred_at"] == delivery["received_at"]
    assert not kit.row(Product, "7").active
    assert kit.row(Product, "7").changed_at == delivery["received_at"]


def test_a_replay_uses_the_time_of_arrival_again(kit, worker):
    answer = kit.send_body("shop", DELETED)
    drain(worker)
    restored = datetime.now(UTC)
    kit.send_body("shop", updated(restored))
    drain(worker)
    kit.advance(hours=5)
    kit.inbox.replay([int(answer.delivery)], now=kit.now())
    drain(worker)
    assert kit.delivery(answer)["outcome"] in ("unchanged", "stale")
    assert kit.row(Product, "7").active


def test_a_later_attempt_uses_the_time_of_arrival(shop, kit, worker):
    seen = []

    @shop.on("product.deleted", override=True)
    def fail(event: Event[None], mirror: Mirror) -> None:
        seen.append(event.occurred_at)
        raise ValueError("not yet")

    answer = kit.send_body("shop", DELETED)
    for _ in range(3):
        drain(worker)
        kit.advance(hours=1)
    assert len(seen) > 1
    assert set(seen) == {kit.delivery(answer)["received_at"]}


def test_the_same_bytes_at_any_later_time_are_a_duplicate(kit, worker):
    first = kit.send_body("shop", DELETED)
    drain(worker)
    kit.advance(days=20)
    again = kit.send_body("shop", DELETED)
    assert again.body == {"status": "duplicate", "delivery": first.delivery}


def test_a_body_that_becomes_readable_later_counts_at_its_arrival(shop, kit, worker):
    readable, shop._read = shop._read, lambda body: 1 / 0
    answer = kit.send_body("shop", DELETED)
    shop._read = readable
    kit.inbox.replay([int(answer.delivery)], now=kit.now())
    drain(worker)
    delivery = kit.delivery(answer)
    assert delivery["state"] == "processed"
    assert delivery["occurred_at"] == delivery["received_at"]


def test_a_refused_request_that_verifies_later_counts_at_its_arrival(kit, worker):
    new = Credentials(secrets=(Secret(b"new"),))
    source = kit.source("shop")
    keeper = Keeper(kit.inbox, {"shop": source}, Bounds(10, 1 << 20, timedelta(days=1)))
    body, headers = source.dialect.verifier.sign(WebhookRequest(DELETED), new)
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    keeper.offer(Request(source, raw, body), NotVerified("signature_wrong", ""))
    came = datetime.now(UTC)
    keeper.flush()
    restored = datetime.now(UTC)
    kit.send_body("shop", updated(restored))
    verify_again(kit.inbox, replace(source, credentials=new))
    drain(worker)
    assert kit.row(Product, "7").active
    (deleted,) = [each for each in kit.deliveries() if each["event_type"] == "product.deleted"]
    assert deleted["occurred_at"] <= came


def test_two_items_without_a_time_in_one_body_are_two_deliveries(shop, kit, worker):
    single = shop._read
    shop._read = lambda body: [single(each) for each in body["items"]]
    answer = kit.send_body("shop", b'{"items": [{"id": 7}, {"id": 7}, {"id": 8}]}')
    drain(worker)
    assert [each["status"] for each in answer.body["deliveries"]] == ["accepted"] * 3
    assert {each["state"] for each in kit.deliveries()} == {"processed"}
