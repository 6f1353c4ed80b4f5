"""Replays with other code: a delivery corrects the values that it left itself, and nothing else."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from shopping import NOON
from sqlalchemy import update

from handlers.catalog import Product, Variant
from receiver import Event, Mirror
from receiver.inbox.retries import RetrySchedule
from receiver.mirror.changes import after
from receiver.mirror.rows import Key, sql_table
from receiver.provenance.why import explain_row
from receiver.runs.forecast import forecast

MINUTE = timedelta(minutes=1)


@pytest.fixture
def wrong(shop, kit) -> str:
    """Let a handler with a mistake process a delivery, mend the handler, and return the delivery."""

    @shop.on("product.priced")
    def write_tenfold(event: Event[Any], mirror: Mirror) -> None:
        mirror.upsert(Product, event.entity_id, price=event.data * 10, name="Lamp")

    delivery = kit.send("shop", "product.priced", id="A1", at=NOON, data=7).delivery
    kit.drain()
    assert kit.row(Product, "A1").price == Decimal(70)

    @shop.on("product.priced", override=True)
    def write(event: Event[Any], mirror: Mirror) -> None:
        mirror.upsert(Product, event.entity_id, price=event.data, name="Lamp")

    return delivery


def replay(kit, *deliveries: str) -> list[str]:
    """Replay the deliveries, and return their outcomes."""
    kit.advance(seconds=60)
    kit.inbox.replay(map(int, deliveries), now=kit.now())
    kit.drain()
    return [kit.delivery(each)["outcome"] for each in deliveries]


def test_a_replay_with_mended_code_corrects_the_value_that_the_delivery_left(kit, wrong):
    assert replay(kit, wrong) == ["applied"]
    assert kit.row(Product, "A1").price == Decimal(7)
    last = after(kit.database, 0, limit=10)[-1]
    assert (last["operation"], last["before"], last["after"]) == ("update", {"price": "70"}, {"price": "7"})


def test_a_second_replay_with_the_same_code_changes_nothing(kit, wrong):
    replay(kit, wrong)
    feed = after(kit.database, 0, limit=10)
    assert replay(kit, wrong) == ["unchanged"]
    assert after(kit.database, 0, limit=10) == feed


def test_a_replay_leaves_newer_news_alone(kit, wrong):
    newer = kit.send("shop", "product.priced", id="A1", at=NOON + MINUTE, data=8).delivery
    kit.drain()
    assert replay(kit, wrong) == ["stale"]
    assert kit.row(Product, "A1").price == Decimal(8)
    assert replay(kit, wrong, newer) == ["stale", "unchanged"]


def test_a_replay_corrects_a_value_that_was_edited_by_hand(kit, wrong):
    with kit.database.write() as connection:
        connection.execute(update(sql_table(Product)).values(name="Tent"))
    replay(kit, wrong)
    assert kit.row(Product, "A1").name == "Lamp"


def test_the_reasons_of_a_row_say_whether_a_replay_would_correct_its_value(kit, shop, wrong):
    def because() -> str | None:
        row = explain_row(kit.database, {"shop": kit.source("shop")}, Key(Product, "shop", "A1"))
        return next(each.because for each in row.reasons if each.path == "price")

    assert because() == f"with today's code, delivery {wrong} does not bring this value, and a replay would correct it"

    @shop.on("product.priced", override=True)
    def write_after_reading(event: Event[Any], mirror: Mirror) -> None:
        mirror.get(Product, event.entity_id)
        mirror.upsert(Product, event.entity_id, price=event.data, name="Lamp")

    assert because().endswith("does not bring this value, and a replay would not change it")


def test_the_forecast_of_a_replay_shows_the_correction(kit, wrong):
    made = forecast(
        kit.database, {"shop": kit.source("shop")}, [int(wrong)], of=1, retries=RetrySchedule(), clock=kit.now
    )
    assert [each.outcome for each in made.deliveries] == ["applied"]
    assert [change.after for change in made.changed_rows()] == [{"price": "7"}]


def test_a_handler_that_reads_the_mirror_is_not_applied_twice_by_a_replay(kit, shop):
    @shop.on("stock.moved")
    def move(event: Event[Any], mirror: Mirror) -> None:
        known = mirror.get(Product, event.entity_id)
        mirror.upsert(Product, event.entity_id, price=event.data + (known.price if known and known.price else 0))

    moved = [kit.send("shop", "stock.moved", id="A1", at=NOON + n * MINUTE, data=5).delivery for n in range(2)]
    kit.drain()
    assert kit.row(Product, "A1").price == Decimal(10)
    assert replay(kit, *moved) == ["stale", "unchanged"]
    assert kit.row(Product, "A1").price == Decimal(10)


def test_a_handler_that_reads_in_its_session_is_not_applied_twice_by_a_replay(kit, shop):
    @shop.on("stock.moved")
    def move(event: Event[Any], mirror: Mirror) -> None:
        known = mirror.session.get(Product, ("shop", event.entity_id))
        mirror.upsert(Product, event.entity_id, price=event.data + (known.price if known and known.price else 0))

    moved = kit.send("shop", "stock.moved", id="A1", at=NOON, data=5).delivery
    kit.drain()
    assert replay(kit, moved) == ["unchanged"]
    assert kit.row(Product, "A1").price == Decimal(5)


def test_a_later_handler_of_the_batch_reads_the_corrected_value(kit, shop, wrong):
    seen = []

    @shop.on("product.read")
    def read(event: Event[Any], mirror: Mirror) -> None:
        known = mirror.get(Product, event.entity_id)
        seen.append(known and known.price)
        mirror.upsert(Variant, event.entity_id, parent=event.entity_id)

    reader = kit.send("shop", "product.read", id="A1", at=NOON).delivery
    kit.drain()
    assert seen == [Decimal(70)]
    replay(kit, wrong, reader)
    assert seen == [Decimal(70), Decimal(7)]
