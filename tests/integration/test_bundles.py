"""Bundles: one delivery for each event, all in one commit, and the body stored once."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from bundling import bundle, item, new_batcher
from faults import each_death
from losing import LosingOne
from shopping import NOON, drain, new_worker

from handlers.catalog import Product
from receiver import Envelope
from receiver.database.database import Database
from receiver.inbox.retention import Retention
from receiver.inbox.retries import RetrySchedule
from receiver.ingest.admission import Request, admit
from receiver.metrics import metrics
from receiver.mirror.rows import Key
from receiver.provenance.why import explain_row
from receiver.runs.forecast import forecast
from receiver.testing import Webhooks
from receiver.verify.request import WebhookRequest

KEPT = Retention(bodies=timedelta(days=30), dedup_keys=timedelta(days=400))


@pytest.fixture
def shop():
    return new_batcher()


def count(kit, table, where="true"):
    with kit.database.read() as connection:
        return connection.exec_driver_sql(f"SELECT count(*) FROM {table} WHERE {where}").scalar()


def execute(kit, statement):
    with kit.database.write() as connection:
        connection.exec_driver_sql(statement)


def statuses(answer):
    return [each["status"] for each in answer.body["deliveries"]]


def prune(kit):
    return sum(iter(lambda: KEPT.prune(kit.database, now=kit.now()), 0))


# ── accept ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_event_is_a_delivery_and_the_body_is_kept_once(kit, worker):
    answer = kit.send_body("shop", bundle(item(1), item(2), item(3)))
    drain(worker)
    assert answer.body["status"] == "accepted"
    assert [each["delivery"] for each in answer.body["deliveries"]] == [each["id"] for each in kit.deliveries()]
    assert answer.delivery == answer.body["deliveries"][0]["delivery"]
    assert (count(kit, "deliveries"), count(kit, "bodies")) == (3, 1)
    assert [row.name for row in kit.rows(Product)] == ["Lamp 1", "Lamp 2", "Lamp 3"]


def test_every_delivery_shows_the_whole_body_and_its_place_in_it(kit):
    body = bundle(item(1), item(2))
    answer = kit.send_body("shop", body)
    shown = [kit.delivery(each["delivery"]) for each in answer.body["deliveries"]]
    assert [each["body"] for each in shown] == [body.decode()] * 2
    assert [each["item"] for each in shown] == [0, 1]
    assert shown[1]["headers"].keys() >= {"x-webhook-signature"}


def test_the_same_bundle_again_is_answered_as_duplicates_item_by_item(kit):
    body = bundle(item(1), item(2))
    first, again = kit.send_body("shop", body), kit.send_body("shop", body)
    assert again.body["status"] == "duplicate"
    assert statuses(again) == ["duplicate", "duplicate"]
    assert [each["delivery"] for each in again.body["deliveries"]] == [
        each["delivery"] for each in first.body["deliveries"]
    ]
    assert [each["duplicates"] for each in kit.deliveries()] == [1, 1]
    assert count(kit, "bodies") == 1


def test_an_item_known_from_another_body_is_a_duplicate_and_its_new_neighbour_is_not(kit, worker):
    kit.send_body("shop", bundle(item(1, event="e1"), item(2, event="e2")))
    answer = kit.send_body("shop", bundle(item(2, event="e2"), item(3, event="e3")))
    drain(worker)
    assert answer.body["status"] == "accepted"
    assert statuses(answer) == ["duplicate", "accepted"]
    assert kit.row(Product, "A3").name == "Lamp 3"
    assert kit.delivery(answer.body["deliveries"][1]["delivery"])["body"] is not None
    assert count(kit, "deliveries", "conflict") == 0


def test_one_event_twice_in_a_body_is_a_delivery_and_its_duplicate(kit):
    answer = kit.send_body("shop", bundle(item(1, event="e1"), item(1, event="e1")))
    assert statuses(answer) == ["accepted", "duplicate"]
    assert [each["duplicates"] for each in kit.deliveries()] == [1]


def test_an_id_with_another_item_is_kept_as_a_conflict(kit):
    kit.send_body("shop", bundle(item(1, event="e1")))
    answer = kit.send_body("shop", bundle(item(2, event="e1")))
    assert statuses(answer) == ["accepted"]
    assert kit.delivery(answer)["conflict"]


@pytest.mark.parametrize("conflicts_first", [True, False])
def test_a_conflict_beside_a_new_item_is_kept_with_it_and_the_body_once(kit, worker, conflicts_first):
    kit.send_body("shop", bundle(item(1, event="e1")))
    both = [item(9, event="e1"), item(2, event="e2")]
    answer = kit.send_body("shop", bundle(*(both if conflicts_first else reversed(both))))
    assert (answer.status, statuses(answer)) == (200, ["accepted", "accepted"])
    drain(worker)
    assert [each["state"] for each in kit.deliveries()] == ["processed"] * 3
    assert count(kit, "bodies") == 2


def test_an_unreadable_item_is_dead_alone(kit, worker):
    answer = kit.send_body("shop", bundle(item(1), {"id": "A2"}, item(3)))
    drain(worker)
    assert statuses(answer) == ["accepted"] * 3
    assert [each["state"] for each in kit.deliveries()] == ["processed", "dead", "processed"]
    assert "at: Field required" in kit.deliveries()[1]["reason"]


def test_an_item_without_a_handler_is_ignored_alone(kit, worker):
    kit.send_body("shop", bundle(item(1), item(2, type="cart.seen")))
    drain(worker)
    assert [each["state"] for each in kit.deliveries()] == ["processed", "ignored"]


def test_a_duplicate_first_event_is_not_counted_as_ended_on_arrival_again(kit):
    seen = item(1, event="e1", type="cart.seen")
    kit.send_body("shop", bundle(seen))
    before = metrics.ENDED_ON_ARRIVAL.labels("shop", "ignored")._value.get()
    answer = kit.send_body("shop", bundle(seen, item(2)))
    assert statuses(answer) == ["duplicate", "accepted"]
    assert metrics.ENDED_ON_ARRIVAL.labels("shop", "ignored")._value.get() == before


def test_an_empty_list_is_acked_and_kept_as_ignored(kit, worker):
    answer = kit.send_body("shop", bundle())
    again = kit.send_body("shop", bundle())
    assert (answer.body["status"], again.body["status"]) == ("accepted", "duplicate")
    assert kit.deliveries()[0]["state"] == "ignored"
    assert kit.deliveries()[0]["reason"] == "The body holds no events."
    kit.inbox.replay([int(answer.delivery)], now=kit.now())
    drain(worker)
    assert (kit.deliveries()[0]["state"], kit.deliveries()[0]["reason"]) == ("ignored", "The body holds no events.")


def test_a_body_with_too_many_events_is_dead_and_the_reason_names_the_setting(kit, worker):
    answer = kit.send_body("shop", bundle(*map(item, range(1_001))))
    assert (answer.status, len(kit.deliveries())) == (200, 1)
    assert kit.deliveries()[0]["state"] == "dead"
    assert "more than 1000 events" in kit.deliveries()[0]["reason"]
    assert "max_events_per_body" in kit.deliveries()[0]["reason"]


def test_a_thousand_events_are_one_commit(kit, worker):
    answer = kit.send_body("shop", bundle(*map(item, range(1_000))))
    assert set(statuses(answer)) == {"accepted"}
    assert count(kit, "bodies") == 1
    drain(worker)
    assert count(kit, "products", "active") == 1_000


def test_a_hundred_events_are_one_statement_for_each_table_or_one_for_all(kit, monkeypatch):
    at_once, together, statements = Database.run_at_once, Database.run_together, []

    def run_at_once(database, statement, parameters):
        statements.append(statement)
        return at_once(database, statement, parameters)

    def run_together(database, several):
        statements.extend(statement for statement, _ in several)
        together(database, several)

    monkeypatch.setattr(Database, "run_at_once", run_at_once)
    monkeypatch.setattr(Database, "run_together", run_together)
    monkeypatch.setattr(Database, "write", lambda _: pytest.fail("a transaction of SQLAlchemy's began"))
    assert kit.send_body("shop", bundle(*map(item, range(100)))).status == 200
    assert len([each for each in statements if "INSERT INTO" in each]) == (1 if kit.database.is_postgresql else 3)


def test_an_endless_generator_is_stopped_at_the_bound(tmp_path, mirror_url):
    shop = new_batcher()

    def endless(body: dict) -> Envelope:
        while True:
            yield Envelope(event_type="product.updated", entity=None, occurred_at=NOON, data=None)

    shop._read = endless
    kit = Webhooks(tmp_path, {"shop": shop}, database_url=mirror_url)
    kit.send_body("shop", b"{}")
    assert "more than 1000 events" in kit.deliveries()[0]["reason"]
    kit.close()


def test_all_items_are_kept_or_none_wherever_the_process_is_killed(kit):
    body = bundle(item(1, event="e1"), item(2, event="e2"), item(3, event="e3"))
    source = kit.source("shop")
    signed, headers = source.dialect.verifier.sign(WebhookRequest(body), source.credentials)
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    def accept():
        kit.inbox.accept(admit([Request(source, raw, signed)]))

    kit.send_body("shop", bundle(item(2, event="e2")))
    for _ in each_death(kit.database, accept):
        assert count(kit, "deliveries") in (1, 3)
        assert count(kit, "deliveries") == 1 or count(kit, "bodies") == 2
    assert (count(kit, "deliveries"), count(kit, "bodies")) == (3, 2)


# ── after the commit ──────────────────────────────────────────────────────────────────────────────────────────────


def test_one_item_is_replayed_without_the_others(kit, worker):
    answer = kit.send_body("shop", bundle(item(1), item(2)))
    drain(worker)
    kit.inbox.replay([int(answer.body["deliveries"][1]["delivery"])], now=kit.now())
    drain(worker)
    assert [len(kit.delivery(each["id"])["rounds"]) for each in kit.deliveries()] == [1, 2]
    assert kit.deliveries()[1]["outcome"] == "unchanged"


def test_an_unreadable_body_becomes_all_its_events_once_it_can_be_read(shop, kit, worker):
    readable, shop._read = shop._read, lambda body: 1 / 0
    answer = kit.send_body("shop", bundle(item(1), {"id": "A2"}, item(3)))
    assert [each["state"] for each in kit.deliveries()] == ["dead"]
    shop._read = readable
    kit.inbox.replay([int(answer.delivery)], now=kit.now())
    drain(worker)
    assert [each["state"] for each in kit.deliveries()] == ["processed", "dead", "processed"]
    assert [kit.delivery(each["id"])["item"] for each in kit.deliveries()] == [0, 1, 2]
    assert {each["received_at"] for each in kit.deliveries()} == {kit.deliveries()[0]["received_at"]}
    assert count(kit, "bodies") == 1


def test_an_unreadable_event_of_an_unfolded_body_is_counted_as_dead_on_arrival(shop, kit, worker):
    readable, shop._read = shop._read, lambda body: 1 / 0
    answer = kit.send_body("shop", bundle(item(1), {"id": "A2"}))
    shop._read = readable
    kit.inbox.replay([int(answer.delivery)], now=kit.now())
    before = metrics.ENDED_ON_ARRIVAL.labels("shop", "dead")._value.get()
    drain(worker)
    assert sorted(each["state"] for each in kit.deliveries()) == ["dead", "processed"]
    assert metrics.ENDED_ON_ARRIVAL.labels("shop", "dead")._value.get() == before + 1


def test_the_forecast_of_its_replay_has_the_rows_of_all_its_events(shop, kit, worker):
    readable, shop._read = shop._read, lambda body: 1 / 0
    answer = kit.send_body("shop", bundle(item(1), {"id": "A2"}, *(item(number) for number in range(3, 40))))
    shop._read = readable
    retries, ids = RetrySchedule(attempts=3), [int(answer.delivery)]
    made = forecast(kit.database, {"shop": kit.source("shop")}, ids, of=1, retries=retries, clock=kit.now)
    assert made.partial is None
    assert [(each.outcome, each.reason) for each in made.deliveries] == [
        ("applied", "It is the first of 39 events, each of which gets a delivery.")
    ]
    assert {row.external_id for row in made.changed_rows()} == {f"A{number}" for number in (1, *range(3, 40))}
    assert kit.rows(Product) == []


@pytest.mark.parametrize("database_system", ["postgresql"], indirect=True)
def test_a_bundle_with_an_event_whose_row_is_held_costs_no_attempt_and_holds_up_no_other(shop, kit, worker):
    dead = kit.send_body("shop", bundle(item(2, event="e2"))).delivery
    execute(kit, f"UPDATE deliveries SET state = 'dead', ended_at = received_at WHERE id = {dead}")
    readable, shop._read = shop._read, lambda body: 1 / 0
    bodies = [bundle(item(1), item(2, event="e2")), bundle(item(3), item(4))]
    waits, free = (kit.send_body("shop", body).delivery for body in bodies)
    shop._read = readable
    kit.inbox.replay([int(waits), int(free)], now=kit.now())
    with kit.database.engine.connect() as other:
        other.exec_driver_sql(f"SELECT 1 FROM deliveries WHERE id = {dead} FOR UPDATE")
        drain(worker)
        assert kit.delivery(waits)["state"] == "pending"
        assert kit.delivery(waits)["reason"].startswith("Another session of the database holds a row of `deliveries`.")
        assert count(kit, "deliveries", f"id = {waits} AND attempts = 0 AND item IS NULL") == 1
        assert {row.external_id for row in kit.rows(Product)} == {"A3", "A4"}
    kit.advance(seconds=11)
    drain(worker)
    assert {each["state"] for each in kit.deliveries()} == {"processed"}
    assert {row.external_id for row in kit.rows(Product)} == {"A1", "A2", "A3", "A4"}


def test_a_body_is_unfolded_once_wherever_the_process_is_killed(shop, kit):
    readable, shop._read = shop._read, lambda body: 1 / 0
    answer = kit.send_body("shop", bundle(item(1), item(2)))
    shop._read = readable
    kit.inbox.replay([int(answer.delivery)], now=kit.now())
    claimed = kit.inbox.claim("w", ["shop"], limit=1, now=kit.now(), lease=timedelta(minutes=1))
    unfolding = shop.read(claimed[0].plain)
    for _ in each_death(kit.database, lambda: kit.inbox.unfold(claimed[0], unfolding)):
        whole = count(kit, "deliveries", "item IS NULL")
        assert (count(kit, "deliveries"), whole) in ((1, 1), (2, 0))
    assert [kit.delivery(each["id"])["item"] for each in kit.deliveries()] == [0, 1]


def test_a_body_unfolded_before_a_lost_answer_counts_its_items_and_duplicates_once(shop, kit, monkeypatch):
    known = kit.send_body("shop", bundle(item(3, event="e3")))
    readable, shop._read = shop._read, lambda body: 1 / 0
    answer = kit.send_body("shop", bundle(item(1), {"id": "A2"}, item(3, event="e3")))
    shop._read = readable
    kit.inbox.replay([int(answer.delivery)], now=kit.now())
    claimed = kit.inbox.claim("w", ["shop"], limit=9, now=kit.now(), lease=timedelta(minutes=1))
    [whole] = [each for each in claimed if each.id == int(answer.delivery)]
    before = metrics.ENDED_ON_ARRIVAL.labels("shop", "dead")._value.get()
    with monkeypatch.context() as patch:
        patch.setattr(kit.database, "write", LosingOne(kit.database, 1).write)
        kit.inbox.unfold(whole, shop.read(whole.plain))
    assert {each["id"]: each["duplicates"] for each in kit.deliveries()}[known.delivery] == 1
    assert sum(each["duplicates"] for each in kit.deliveries()) == 1
    assert metrics.ENDED_ON_ARRIVAL.labels("shop", "dead")._value.get() == before + 1


def test_the_body_is_dropped_after_its_last_delivery_expired(shop, kit, worker):
    @shop.on("product.slow")
    def fail(event, mirror):
        raise ValueError("not yet")

    kit.send_body("shop", bundle(item(1), item(2, type="product.slow")))
    drain(worker)
    kit.advance(days=31)
    assert prune(kit) == 0
    assert count(kit, "bodies") == 1
    for _ in range(12):
        kit.advance(days=2)
        drain(worker)
    assert [each["state"] for each in kit.deliveries()] == ["processed", "dead"]
    assert prune(kit) > 0
    assert count(kit, "bodies") == 0
    assert [kit.delivery(each["id"])["body"] for each in kit.deliveries()] == [None, None]


@pytest.mark.parametrize("place", [0, 1])
def test_the_body_outlives_a_delivery_that_expires_beside_an_open_one(kit, worker, place):
    answer = kit.send_body("shop", bundle(item(1), item(2)))
    drain(worker)
    kit.inbox.replay([int(answer.body["deliveries"][place]["delivery"])], now=kit.now())
    kit.advance(days=1_000)
    prune(kit)
    assert (count(kit, "deliveries"), count(kit, "bodies")) == (1, 1)


def test_a_body_whose_first_item_was_a_duplicate_is_dropped_too(kit, worker):
    kit.send_body("shop", bundle(item(1, event="e1")))
    kit.send_body("shop", bundle(item(1, event="e1"), item(2, event="e2")))
    drain(worker)
    assert count(kit, "bodies") == 2
    kit.advance(days=31)
    prune(kit)
    assert count(kit, "bodies") == 0
    kit.advance(days=400)
    prune(kit)
    assert (count(kit, "deliveries"), count(kit, "dedup_keys")) == (0, 0)


def test_a_dead_item_whose_body_is_still_there_keeps_it_when_another_bundle_revives_it(kit):
    body, broken = bundle(item(1, event="e1"), item(2, event="e2")), item(2, event="e2")
    dead = kit.send_body("shop", body).body["deliveries"][1]["delivery"]
    execute(kit, f"UPDATE deliveries SET state = 'dead', ended_at = received_at WHERE id = {dead}")
    kit.send_body("shop", bundle(broken, item(3, event="e3")))
    revived = kit.delivery(dead)
    assert (revived["state"], revived["item"], revived["body"]) == ("pending", 1, body.decode())


def test_a_dead_item_whose_body_has_expired_is_revived_by_another_bundle(shop, kit, worker):
    @shop.on("product.broken")
    def fail(event, mirror):
        raise ValueError("not yet")

    broken = item(2, event="e2", type="product.broken")
    answer = kit.send_body("shop", bundle(item(1, event="e1"), broken))
    for _ in range(12):
        drain(worker)
        kit.advance(days=2)
    kit.advance(days=31)
    prune(kit)
    assert count(kit, "bodies") == 0
    again = kit.send_body("shop", bundle(broken, item(3, event="e3")))
    assert statuses(again) == ["duplicate", "accepted"]
    revived = kit.delivery(answer.body["deliveries"][1]["delivery"])
    assert (revived["state"], revived["item"]) == ("pending", 0)
    shop._handlers[:] = [each for each in shop._handlers if each.pattern.text != "product.broken"]
    shop._found.clear()

    @shop.on("product.broken")
    def mended(event, mirror):
        mirror.upsert(Product, event.entity_id, name="mended")

    drain(worker)
    assert kit.row(Product, "A2").name == "mended"


def test_a_dead_item_whose_body_has_expired_is_revived_by_a_body_of_its_own(shop, kit, worker):
    def read(body: dict):
        envelopes = [
            Envelope(
                event_type=each["type"],
                entity=("product", each["id"]),
                occurred_at=NOON,
                dedup_key=each["event"],
                fingerprint=each["event"].encode(),
                data={"name": each["name"]},
            )
            for each in body["events"]
        ]
        return envelopes if len(envelopes) > 1 else envelopes[0]

    def fail(event, mirror):
        raise ValueError("not yet")

    shop._read = read
    shop.on("product.broken")(fail)
    broken = item(2, event="e2", type="product.broken")
    first = kit.send_body("shop", bundle(item(1, event="e1", type="product.updated"), broken))
    for _ in range(12):
        drain(worker)
        kit.advance(days=2)
    kit.advance(days=31)
    prune(kit)
    again = kit.send_body("shop", bundle(broken))
    known = first.body["deliveries"][1]["delivery"]
    assert again.body == {"status": "duplicate", "delivery": known}
    revived = kit.delivery(known)
    assert (revived["state"], revived["item"], revived["body"]) == ("pending", None, bundle(broken).decode())


def test_provenance_names_the_item_that_brought_a_value(kit, worker):
    answer = kit.send_body("shop", bundle(item(1), item(2)))
    drain(worker)
    told = explain_row(kit.database, {"shop": kit.source("shop")}, Key(Product, "shop", "A2"))
    assert told.recomputation.ran == {int(answer.body["deliveries"][1]["delivery"])}
    assert told.recomputation.trace.registers.values["name"] == "Lamp 2"


def test_a_worker_parses_a_shared_body_once(shop, kit):
    read = []
    original = shop._read

    def counting(body: dict) -> list[Envelope]:
        read.append(1)
        return list(original(body))

    shop._read = counting
    kit.send_body("shop", bundle(*map(item, range(50))))
    at_accept = len(read)
    drain(new_worker(kit))
    assert len(read) - at_accept == 1


def test_items_of_one_entity_are_handled_in_the_order_of_the_body(kit, worker):
    kit.send_body("shop", bundle(item(1, name="first"), item(1, name="second")))
    drain(worker)
    assert kit.row(Product, "A1").name == "second"


def test_items_that_are_not_a_list_are_reported(shop, kit):
    kit.send_body("shop", b'{"events": {"id": "A1"}}')
    assert kit.deliveries()[0]["reason"] == "The items are {'id': 'A1'} instead of a list."


def test_a_slow_envelope_function_is_logged(shop, kit, monkeypatch):
    told = []
    monkeypatch.setattr("receiver.ingest.admission.log.warning", lambda event, **more: told.append((event, more)))
    readable = shop._read

    def slow(body: dict) -> list[Envelope]:
        time.sleep(0.15)
        return readable(body)

    shop._read = slow
    kit.send_body("shop", bundle(item(1)))
    assert [(more["about"], more["webhooks"]) for event, more in told if "takes long" in event] == [
        ({"source": "shop"}, 1)
    ]
