"""Faults that must not stop the rest: a bad verdict of a handler, an incomplete source, a refused value."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from shopping import NOON, drain, named

from handlers.api import fetch_patiently
from handlers.catalog import Product, Variant
from receiver import ApiError, Event, Mirror, Retry, SourceSettings
from receiver.database.database import Database
from receiver.dialects.sources import build_source, find_dialects
from receiver.errors import ConfigurationError
from receiver.inbox.arrival import Arrival
from receiver.inbox.inbox import Inbox
from receiver.inbox.retention import Retention
from receiver.mirror import unit_of_work
from receiver.verify.signatures import HmacSha256
from receiver.verify.verifiers import Credentials, Secret


def test_a_retry_after_something_else_than_a_timedelta_fails_only_its_attempt(shop, kit, worker):
    @shop.on("product.odd")
    def postpone(event: Event[Any], mirror: Mirror) -> None:
        raise Retry(after=60)  # type: ignore[arg-type]

    odd = kit.send("shop", "product.odd", id="B1", at=NOON)
    lamp = kit.send("shop", "product.updated", id="A1", at=NOON, data=named())
    drain(worker)
    assert "takes a timedelta" in kit.delivery(odd)["reason"]
    assert kit.delivery(lamp)["state"] == "processed"


def test_a_source_whose_api_lacks_its_key_is_refused_at_start():
    settings = SourceSettings(name="sigma", secrets=["s"], api_url="http://127.0.0.1:9/api/v1")
    with pytest.raises(ConfigurationError, match="api_key"):
        build_source(settings, find_dialects())


@pytest.mark.parametrize("empty", [b"", b" "])
def test_an_empty_secret_is_refused_because_anybody_could_sign_with_it(empty):
    assert "is empty" in str(HmacSha256(header="X").check(Credentials(secrets=(Secret(b"good"), Secret(empty)))))


def test_two_losses_of_the_same_children_end_the_same_in_either_order(shop, kit, worker):
    @shop.on("variant.updated", override=True)
    def upsert(event: Event[Any], mirror: Mirror) -> None:
        mirror.upsert(Variant, event.entity_id, parent="P")

    kit.send("shop", "variant.updated", id="V", at=NOON)
    drain(worker)
    for hours in (9, 5):
        kit.send("shop", "product.deleted", id="P", at=NOON + timedelta(hours=hours))
        drain(worker)
    later = NOON + timedelta(hours=9)
    row = kit.row(Variant, "V")
    assert (row.active, row.deactivated_at, row.changed_at) == (False, later, later)
    kit.send("shop", "product.deleted", id="P", at=NOON + timedelta(hours=12))
    drain(worker)
    assert kit.row(Variant, "V").deactivated_at == NOON + timedelta(hours=12)


def test_a_dead_delivery_gets_its_expired_body_back_from_a_repeated_webhook(shop, kit, worker):
    body = shop.write("product.updated", "A1", at=NOON, data={"name": 5})
    answer = kit.send_body("shop", body)
    drain(worker)
    assert kit.delivery(answer)["state"] == "dead"
    kept = Retention(bodies=timedelta(days=30), dedup_keys=timedelta(days=400))
    kept.prune(kit.database, now=datetime.now(UTC) + timedelta(days=31))
    assert kit.delivery(answer)["body"] is None
    assert kit.send_body("shop", body).body == {"status": "duplicate", "delivery": answer.delivery}
    assert kit.delivery(answer)["body"] == body.decode()


def test_a_walk_asked_to_wait_for_a_day_ends_at_once():
    asked = []

    def tomorrow(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(429, headers={"retry-after": "86400"})

    client = httpx.Client(transport=httpx.MockTransport(tomorrow), base_url="http://source")
    with client, pytest.raises(ApiError, match="Repeated attempts failed\\."):
        fetch_patiently(client, "/records")
    assert asked == ["/records"]


def test_a_value_that_the_driver_refuses_fails_only_its_own_delivery(shop, kit, worker, monkeypatch):
    insert = unit_of_work.insertions

    def picky(dialect, table, names, rows, **options):
        if table.name == "products" and any("refused" in row for row in rows):
            raise TypeError("this driver takes no such value")
        return insert(dialect, table, names, rows, **options)

    monkeypatch.setattr(unit_of_work, "insertions", picky)
    bad = kit.send("shop", "product.updated", id="B1", at=NOON, data=named("refused"))
    good = kit.send("shop", "product.updated", id="A1", at=NOON, data=named())
    drain(worker)
    assert "takes no such value" in kit.delivery(bad)["reason"]
    assert (kit.delivery(good)["state"], kit.row(Product, "A1").active) == ("processed", True)


def test_an_api_key_that_no_header_can_hold_is_refused_at_start_with_advice():
    settings = SourceSettings(name="sigma", secrets=["s"], api_url="http://127.0.0.1:9/api/v1", api_key="sk_…")
    with pytest.raises(ConfigurationError, match="check api_url, api_key"):
        build_source(settings, find_dialects())


def test_a_trigger_of_another_program_does_not_hide_duplicates(tmp_path):
    """The trigger changes the number of rows that a statement reports as changed."""
    database = Database(f"sqlite:///{tmp_path / 'watched.db'}")
    database.create_tables()
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE watched (id)")
        connection.exec_driver_sql(
            "CREATE TRIGGER watch AFTER INSERT ON deliveries BEGIN INSERT INTO watched VALUES (NEW.id); END"
        )
    inbox = Inbox(database)

    def arrival(key: str, body: bytes) -> Arrival:
        kept = {"source": "s", "plain": None, "headers": {}, "received_at": NOON, "secret": None}
        return Arrival(body=body, dedup_key=key, fingerprint=body, occurred_at=NOON, **kept)

    inbox.accept([arrival("known", b"one")])
    news = [arrival("a", b"a"), arrival("b", b"b"), arrival("c", b"c"), arrival("known", b"another")]
    answers = inbox.accept(news)
    assert [answer.status for answer in answers] == ["accepted"] * 4
    with database.read() as connection:
        assert set(connection.exec_driver_sql("SELECT body FROM bodies").scalars()) == {
            b"one",
            b"a",
            b"b",
            b"c",
            b"another",
        }
    database.close()
