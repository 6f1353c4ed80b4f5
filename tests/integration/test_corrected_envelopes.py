"""Envelope functions that are corrected: a replay records what they read now, and the dedup key follows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from pydantic import AwareDatetime, BaseModel
from shopping import NOON
from sqlalchemy import event, select, update

from handlers.catalog import Product
from receiver import Dialect, Envelope, Event, HmacSha256, Mirror, Unreadable
from receiver.envelope import ARRIVAL, lead_of
from receiver.inbox.retention import Retention
from receiver.inbox.tables import DEDUP_KEYS, DELIVERIES
from receiver.testing import Answer, Webhooks

KEPT = Retention(bodies=timedelta(days=30), dedup_keys=timedelta(days=400))

#: What a sender's zone was taken for at first, and what it is.
ZONE = timedelta(hours=5)


class Body(BaseModel):
    type: str
    key: str
    at: AwareDatetime
    id: str | None = None


class Code:
    """The present code of the envelope function."""

    def __init__(self) -> None:
        self.change: Callable[[Envelope], Envelope] = lambda envelope: envelope

    def read(self, body: Body) -> Envelope:
        entity = ("product", body.id) if body.id else None
        return self.change(
            Envelope(event_type=body.type, entity=entity, occurred_at=body.at, data=None, dedup_key=body.key)
        )


@pytest.fixture
def code() -> Code:
    return Code()


@pytest.fixture
def kit(tmp_path, mirror_url, code) -> Iterator[Webhooks]:
    shop = Dialect("shop", verify=HmacSha256(header="X-Webhook-Signature"))

    @shop.envelope
    def read(body: Body) -> Envelope:
        return code.read(body)

    @shop.on("product.updated", "product.renamed", "shop.opened")
    def upsert(event: Event[Any], mirror: Mirror) -> None:
        if event.entity_id:
            mirror.upsert(Product, event.entity_id, name="Lamp")

    with closing(Webhooks(tmp_path, {"shop": shop}, database_url=mirror_url)) as kit:
        yield kit


def send(kit: Webhooks, event_type: str = "product.updated", *, key: str = "K1", entity: str | None = "A1") -> Answer:
    body = Body(type=event_type, key=key, at=NOON, id=entity).model_dump_json().encode()
    answer = kit.send_body("shop", body)
    kit.drain()
    return answer


def in_its_zone(envelope: Envelope) -> Envelope:
    return replace(envelope, occurred_at=envelope.occurred_at + ZONE)


def with_id(envelope: Envelope) -> Envelope:
    return envelope


def without_id(envelope: Envelope) -> Envelope:
    return replace(envelope, dedup_key=None)


def undated(envelope: Envelope) -> Envelope:
    return replace(envelope, occurred_at=ARRIVAL)


def unreadable(envelope: Envelope) -> Envelope:
    raise Unreadable("an unknown shape")


def replay(kit: Webhooks, *answers: Answer) -> None:
    kit.inbox.replay([int(each.delivery) for each in answers], now=kit.now())
    kit.drain()


def holders(kit: Webhooks) -> list[str]:
    """The deliveries that hold the dedup keys."""
    with kit.database.read() as connection:
        return [str(each) for each in connection.execute(select(DEDUP_KEYS.c.delivery_id)).scalars()]


def drop_everything(kit: Webhooks) -> None:
    kit.advance(days=500)
    while KEPT.prune(kit.database, now=kit.now()):
        pass
    assert kit.deliveries() == []


@pytest.mark.parametrize(("event_type", "state"), [("shop.opened", "processed"), ("shop.painted", "ignored")])
def test_a_body_that_became_readable_is_found_by_its_event_type_without_an_entity(kit, code, event_type, state):
    code.change = unreadable
    answer = send(kit, event_type, entity=None)
    assert (kit.delivery(answer)["state"], kit.delivery(answer)["event_type"]) == ("dead", None)
    code.change = lambda envelope: envelope
    replay(kit, answer)
    delivery = kit.delivery(answer)
    assert (delivery["state"], delivery["event_type"], delivery["occurred_at"]) == (state, event_type, NOON)


def test_a_corrected_event_type_is_recorded(kit, code):
    answer = send(kit)
    code.change = lambda envelope: replace(envelope, event_type="product.renamed")
    replay(kit, answer)
    assert kit.delivery(answer)["event_type"] == "product.renamed"


def test_a_corrected_time_is_recorded_as_the_row_has_it(kit, code):
    answer = send(kit)
    code.change = in_its_zone
    replay(kit, answer)
    assert kit.delivery(answer)["occurred_at"] == kit.row(Product, "A1").changed_at == NOON + ZONE


def test_after_a_corrected_time_a_repetition_is_a_duplicate(kit, code):
    answer = send(kit)
    code.change = in_its_zone
    replay(kit, answer)
    assert send(kit).body == {"status": "duplicate", "delivery": answer.delivery}
    assert holders(kit) == [answer.delivery]


def test_a_dedup_key_goes_with_its_delivery_after_its_time_was_corrected(kit, code):
    answer = send(kit)
    code.change = in_its_zone
    replay(kit, answer)
    drop_everything(kit)
    assert holders(kit) == []
    code.change = lambda envelope: envelope
    assert send(kit).body["status"] == "accepted"


def test_two_deliveries_whose_corrected_times_give_one_key_are_both_settled(kit, code):
    first = send(kit)
    code.change = in_its_zone
    second = send(kit)
    assert second.body["status"] == "accepted", "before a replay, the first one has the key of the wrong time"
    replay(kit, first)
    assert {kit.delivery(each)["state"] for each in (first, second)} == {"processed"}
    assert holders(kit) == [second.delivery]
    drop_everything(kit)
    assert holders(kit) == []


def test_dedup_keys_of_corrected_times_are_recorded_in_one_order_so_that_two_workers_do_not_deadlock(kit, code):
    sent = [send(kit, key=key, entity=key) for key in ("K1", "K2")]
    times = {"K1": NOON + 2 * ZONE, "K2": NOON + ZONE}
    code.change = lambda envelope: replace(envelope, occurred_at=times[envelope.dedup_key])
    recorded = []

    @event.listens_for(kit.database.engine, "before_cursor_execute")
    def watch(connection, cursor, statement, parameters, context, executemany):
        if statement.startswith("INSERT INTO dedup_keys") and executemany:
            recorded.extend(each["new"] for each in context.compiled_parameters)

    replay(kit, *sent)
    assert recorded == [lead_of(times[key]) + key for key in ("K2", "K1")]


def test_after_a_corrected_time_a_repetition_without_an_id_of_the_senders_is_a_duplicate(kit, code):
    code.change = without_id
    answer = send(kit)
    code.change = lambda envelope: in_its_zone(without_id(envelope))
    replay(kit, answer)
    assert send(kit).body == {"status": "duplicate", "delivery": answer.delivery}
    assert kit.delivery(answer)["dedup_key"].startswith(lead_of(NOON + ZONE))
    assert holders(kit) == [answer.delivery]


def test_after_a_corrected_time_a_repetition_with_a_long_fingerprint_is_a_duplicate(kit, code):
    with_long_fingerprint = lambda envelope: replace(without_id(envelope), fingerprint=b"\1" * 1_001)  # noqa: E731
    code.change = with_long_fingerprint
    answer = send(kit)
    code.change = lambda envelope: in_its_zone(with_long_fingerprint(envelope))
    replay(kit, answer)
    assert send(kit).body == {"status": "duplicate", "delivery": answer.delivery}


def test_after_a_corrected_time_a_repetition_of_a_change_from_before_long_fingerprints_were_hashed_is_a_duplicate(
    kit, code
):
    fingerprint = b"\1" * 1_001
    with_long_fingerprint = lambda envelope: replace(without_id(envelope), fingerprint=fingerprint)  # noqa: E731
    code.change = with_long_fingerprint
    answer = send(kit)
    with kit.database.write() as connection:
        for table in (DEDUP_KEYS, DELIVERIES):
            connection.execute(update(table).values(dedup_key=f"{lead_of(NOON)}{fingerprint.hex()}"))
    code.change = lambda envelope: in_its_zone(with_long_fingerprint(envelope))
    replay(kit, answer)
    assert send(kit).body == {"status": "duplicate", "delivery": answer.delivery}
    drop_everything(kit)
    assert holders(kit) == []


def test_a_derived_key_goes_with_its_delivery_after_its_time_was_corrected(kit, code):
    code.change = without_id
    answer = send(kit)
    code.change = lambda envelope: in_its_zone(without_id(envelope))
    replay(kit, answer)
    drop_everything(kit)
    assert holders(kit) == []


@pytest.mark.parametrize("has_id", [False, True])
def test_a_repetition_of_a_change_that_the_corrected_code_no_longer_dates_is_a_duplicate(kit, code, has_id):
    identified = with_id if has_id else without_id
    code.change = identified
    answer = send(kit)
    code.change = lambda envelope: undated(identified(envelope))
    replay(kit, answer)
    kit.advance(minutes=1)
    assert send(kit).body == {"status": "duplicate", "delivery": answer.delivery}
    drop_everything(kit)
    assert holders(kit) == []


@pytest.mark.parametrize("before", ["undated", "unread"])
def test_a_repetition_without_an_id_of_a_change_that_the_corrected_code_dates_is_a_duplicate(kit, code, before):
    code.change = unreadable if before == "unread" else lambda envelope: undated(without_id(envelope))
    answer = send(kit)
    code.change = without_id
    replay(kit, answer)
    assert send(kit).body == {"status": "duplicate", "delivery": answer.delivery}
    drop_everything(kit)
    assert holders(kit) == []


def test_after_a_corrected_time_a_repeated_bundle_without_ids_is_a_duplicate(kit, code):
    code.change = lambda envelope: [without_id(envelope)] * 2
    answer = send(kit)
    code.change = lambda envelope: [in_its_zone(without_id(envelope))] * 2
    kit.inbox.replay([int(each) for each in answer.stored], now=kit.now())
    kit.drain()
    again = send(kit)
    assert (again.body["status"], again.stored) == ("duplicate", answer.stored)
    assert sorted(holders(kit)) == sorted(answer.stored)


def test_a_repeated_bundle_that_could_not_be_read_before_the_correction_is_a_duplicate(kit, code):
    code.change = unreadable
    answer = send(kit)
    code.change = lambda envelope: [without_id(envelope)] * 2
    replay(kit, answer)
    again = send(kit)
    assert (again.body["status"], len(again.stored), again.stored[0]) == ("duplicate", 2, answer.delivery)
    assert sorted(holders(kit)) == sorted(again.stored)
