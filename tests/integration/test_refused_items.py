"""Items of a bundle that the database refuses: each is dead alone, and the others are kept in the same transaction."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from bundling import bundle, item, new_batcher
from shopping import drain
from trouble import refusing
from waiting import wait_until

from handlers.catalog import Product
from receiver import NotVerified
from receiver.inbox import refused
from receiver.inbox.refused import Bounds
from receiver.ingest.admission import Request
from receiver.ingest.keeping import Keeper
from receiver.ingest.reverifying import verify_again
from receiver.verify.request import WebhookRequest


@pytest.fixture
def shop():
    return new_batcher()


def count(kit, table):
    with kit.database.read() as connection:
        return connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar()


def statuses(answer):
    return [each["status"] for each in answer.body["deliveries"]]


REFUSED = "NEW.entity_id = 'A2'"


def test_an_item_that_the_database_refuses_is_dead_alone(kit, worker):
    with refusing(kit.database, "deliveries", "not this one", row=REFUSED):
        answer = kit.send_body("shop", bundle(item(1), item(2), item(3)))
    drain(worker)
    assert statuses(answer) == ["accepted"] * 3
    assert [each["state"] for each in kit.deliveries()] == ["processed", "dead", "processed"]
    assert [kit.delivery(each["id"])["item"] for each in kit.deliveries()] == [0, 1, 2]
    assert count(kit, "bodies") == 1


def test_the_same_body_with_a_refused_item_again_is_a_duplicate_item_by_item(kit):
    body = bundle(item(1), item(2), item(3))
    with refusing(kit.database, "deliveries", "not this one", row=REFUSED):
        first, again = kit.send_body("shop", body), kit.send_body("shop", body)
    assert (statuses(first), statuses(again)) == (["accepted"] * 3, ["duplicate"] * 3)


@pytest.mark.parametrize("row", ["NEW.entity_id = 'A1'", "NEW.entity_id IS NOT NULL"])
def test_a_first_item_that_the_database_refuses_leaves_the_body_to_the_others(kit, row):
    with refusing(kit.database, "deliveries", "not this one", row=row):
        answer = kit.send_body("shop", bundle(item(1), item(2)))
    shown = [kit.delivery(each["delivery"]) for each in answer.body["deliveries"]]
    assert shown[0]["reason"] == "The database refused its content: not this one"
    assert shown[0]["entity"] is None
    assert [each["body"] for each in shown] == [bundle(item(1), item(2)).decode()] * 2


def test_a_refused_item_can_be_replayed_once_the_database_accepts_it(kit, worker):
    with refusing(kit.database, "deliveries", "not this one", row=REFUSED):
        answer = kit.send_body("shop", bundle(item(1), item(2)))
    kit.inbox.replay([int(answer.body["deliveries"][1]["delivery"])], now=kit.now())
    drain(worker)
    assert [row.name for row in kit.rows(Product)] == ["Lamp 1", "Lamp 2"]


def test_an_item_refused_when_its_body_is_unfolded_is_dead_alone(shop, kit, worker):
    readable, shop._read = shop._read, lambda body: 1 / 0
    answer = kit.send_body("shop", bundle(item(1), item(2), item(3)))
    shop._read = readable
    kit.inbox.replay([int(answer.delivery)], now=kit.now())
    with refusing(kit.database, "deliveries", "not this one", row=REFUSED):
        drain(worker)
    assert [each["state"] for each in kit.deliveries()] == ["processed", "dead", "processed"]


def keeper_with(kit, body: bytes) -> Keeper:
    """Offer a refused request that the present secret verifies, so that it can be kept."""
    source = kit.source("shop")
    _, signature = source.dialect.verifier.sign(WebhookRequest(body), source.credentials)
    headers = [(name.lower().encode(), value.encode()) for name, value in signature.items()]
    keeper = Keeper(kit.inbox, {"shop": source}, Bounds(number=100, bytes=1 << 20, age=timedelta(hours=24)))
    keeper.offer(Request(source, headers, body), NotVerified("signature_wrong", "of an older secret"))
    return keeper


def test_an_item_refused_when_a_kept_request_verifies_is_dead_alone(kit):
    keeper = keeper_with(kit, bundle(item(1), item(2), item(3)))
    keeper.flush()
    with refusing(kit.database, "deliveries", "not this one", row=REFUSED):
        assert verify_again(kit.inbox, kit.source("shop")).accepted == 1
    assert [each["state"] for each in kit.deliveries()] == ["pending", "dead", "pending"]


def test_a_flush_returns_after_requests_that_another_thread_is_writing_are_kept(kit, monkeypatch):
    keeper = keeper_with(kit, bundle(item(1)))
    keep, writing, go_on = refused.keep, threading.Event(), threading.Event()

    def keep_later(*arguments):
        writing.set()
        assert go_on.wait(60)
        keep(*arguments)

    monkeypatch.setattr(refused, "keep", keep_later)
    first, second = threading.Thread(target=keeper.flush), threading.Thread(target=keeper.flush)
    first.start()
    assert writing.wait(60)
    second.start()
    second.join(0.1)
    assert second.is_alive()
    go_on.set()
    wait_until(lambda: not second.is_alive(), "the second flush")
    assert verify_again(kit.inbox, kit.source("shop")).accepted == 1
