"""The worker: how an attempt may end, and that one delivery's trouble affects no other."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from serving import wait_until
from shopping import NOON, Body, drain, named, new_shop, new_worker, running, states
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs
from trouble import refusing

from handlers.catalog import Product
from receiver import Dialect, Discard, Envelope, Event, HmacSha256, Mirror, Retry
from receiver.errors import Unreadable
from receiver.testing import Webhooks
from receiver.worker import batch_sizes
from receiver.worker.worker import Worker


def due_in(kit: Webhooks, delivery: dict) -> timedelta:
    """Return the time from the failed attempt to the next one."""
    due: datetime = delivery["next_attempt_at"]
    return due - delivery["attempts"][-1]["ended_at"]


@pytest.fixture
def _standing_clock(monkeypatch):
    """Stop the kit's clock at a time after all arrivals, except for its advances, so that waits are exact."""
    at = datetime.now(UTC) + timedelta(hours=1)
    monkeypatch.setattr(Webhooks, "now", lambda kit: at + kit._moved)


def test_a_backlog_on_sqlite_is_worked_off_in_larger_batches_once_no_webhook_arrives(kit, monkeypatch):
    monkeypatch.setattr(batch_sizes, "QUICK_PASS", 3_600.0)
    for number in range(20):
        kit.send("shop", "product.updated", id=f"A{number}", at=NOON, data=named())
    kit.advance(minutes=1)
    with closing(new_worker(kit, batch_size=2)) as worker:
        grows = not kit.database.is_postgresql
        assert [worker.work() for _ in range(5)] == ([2, 4, 8, 6, 0] if grows else [2] * 5)
        while worker.work():
            pass
    assert states(kit) == ["processed"] * 20


def test_while_webhooks_arrive_a_batch_keeps_its_size(kit):
    for number in range(6):
        kit.send("shop", "product.updated", id=f"A{number}", at=NOON, data=named())
    # By a clock that was set back, the last delivery has only just arrived, however slow this machine is.
    kit.advance(days=-1)
    with closing(new_worker(kit, batch_size=2)) as worker:
        worker._reclaiming.look(kit.now())
        assert [worker.work() for _ in range(3)] == [2, 2, 2]


# ── outages ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_worker_that_cannot_return_what_it_claimed_does_not_say_that_it_works_again(kit, monkeypatch):
    passes: list[object] = []

    def fail(*given: object, **_: object) -> None:
        passes.append(given)
        raise full

    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    full = OperationalError("UPDATE", None, error)
    kit.send("shop", "product.updated", id="A1", at=NOON, data=named())
    worker = new_worker(kit)
    with capture_logs() as lines, monkeypatch.context() as broken:
        broken.setattr(worker._settlement, "settle", fail)
        broken.setattr(kit.inbox, "release", fail)
        with running(worker):
            # The claimed delivery is not due meanwhile, so that nothing is written but this.
            wait_until(lambda: len(passes) > 5, "further passes")
            assert "the worker works again" not in {line["event"] for line in lines}
            broken.undo()
            wait_until(lambda: states(kit) == ["processed"], "the worker")
            wait_until(lambda: lines[-1]["event"] == "the worker works again", "the end of the outage")


# ── retries ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("_standing_clock")
def test_a_handler_that_raises_is_tried_again_after_growing_waits_and_is_dead_after_ten_attempts(shop, kit, worker):
    @shop.on("product.broken")
    def fail(event: Event, mirror: Mirror) -> None:
        raise ZeroDivisionError(f"attempt {event.attempt}")

    answer = kit.send("shop", "product.broken", id="A1")
    waits: list[timedelta] = []
    for number in range(1, 11):
        assert drain(worker) == 1, "not due before its time, and then once"
        delivery = kit.delivery(answer)
        assert delivery["attempts"][-1]["number"] == number
        assert delivery["attempts"][-1]["reason"].endswith(f"fail raised ZeroDivisionError: attempt {number}")
        if number < 10:
            waits.append(due_in(kit, delivery))
            kit.advance(seconds=waits[-1].total_seconds() + 1)
    assert waits == [timedelta(seconds=min(15 * 3**power, 86_400) / 2) for power in range(9)]
    assert (delivery["state"], len(delivery["attempts"]), delivery["next_attempt_at"]) == ("dead", 10, None)
    kit.advance(days=30)
    assert drain(worker) == 0


def test_a_handler_that_recovers_leaves_the_row_and_the_record_of_its_failures(shop, kit, worker):
    @shop.on("product.flaky")
    def fail_twice(event: Event, mirror: Mirror) -> None:
        mirror.upsert(Product, event.entity_id, name=f"attempt {event.attempt}")
        if event.attempt < 3:
            raise ConnectionError("not yet")

    answer = kit.send("shop", "product.flaky", id="A1")
    for _ in range(3):
        drain(worker)
        kit.advance(hours=1)
    delivery = kit.delivery(answer)
    assert (delivery["state"], delivery["outcome"], len(delivery["attempts"])) == ("processed", "applied", 2)
    assert kit.row(Product, "A1").name == "attempt 3"


@pytest.fixture
def _early(shop):
    """Let the handler of `product.early` ask for its next attempt in seven minutes."""

    @shop.on("product.early")
    def wait(event: Event, mirror: Mirror) -> None:
        raise Retry("its category is not here yet", after=timedelta(minutes=7))


@pytest.mark.usefixtures("_standing_clock", "_early")
def test_a_handler_may_set_the_time_of_the_next_attempt(kit, worker):
    answer = kit.send("shop", "product.early", id="A1")
    drain(worker)
    delivery = kit.delivery(answer)
    assert (delivery["state"], delivery["reason"]) == ("pending", "its category is not here yet")
    assert due_in(kit, delivery) == timedelta(minutes=7)


@pytest.mark.usefixtures("_standing_clock", "_early")
def test_a_delivery_that_waits_for_its_next_attempt_is_left_out_of_a_batch_of_due_ones(kit, worker):
    early = kit.send("shop", "product.early", id="A1")
    drain(worker)
    kit.send("shop", "product.updated", id="B1", data=named())
    assert drain(worker) == 1
    assert len(kit.delivery(early)["attempts"]) == 1


@pytest.mark.usefixtures("_standing_clock")
def test_a_retry_without_a_time_waits_like_a_failure(shop, kit, worker):
    @shop.on("product.early")
    def wait(event: Event, mirror: Mirror) -> None:
        raise Retry

    answer = kit.send("shop", "product.early", id="A1")
    drain(worker)
    assert due_in(kit, kit.delivery(answer)) == timedelta(seconds=7.5)


def test_a_handler_that_always_asks_for_a_retry_ends_as_dead(shop, kit):
    @shop.on("product.early")
    def wait(event: Event, mirror: Mirror) -> None:
        raise Retry("never ready", after=timedelta())

    answer = kit.send("shop", "product.early", id="A1")
    assert kit.drain() == 10
    assert (kit.delivery(answer)["state"], kit.delivery(answer)["reason"]) == ("dead", "never ready")


def test_a_discarded_delivery_is_ignored_with_the_handler_s_reason(shop, kit, worker):
    @shop.on("product.test")
    def refuse(event: Event, mirror: Mirror) -> None:
        mirror.upsert(Product, event.entity_id, name="never to be seen")
        raise Discard("test products are not mirrored")

    answer = kit.send("shop", "product.test", id="A1")
    drain(worker)
    delivery = kit.delivery(answer)
    assert (delivery["state"], delivery["reason"]) == ("ignored", "test products are not mirrored")
    assert kit.rows(Product) == []


def test_a_handler_that_calls_exit_only_fails_its_attempt(shop, kit, worker):
    @shop.on("product.exit")
    def leave(event: Event, mirror: Mirror) -> None:
        sys.exit("enough")

    kit.send("shop", "product.exit", id="A1")
    kit.send("shop", "product.updated", id="A2", data=named())
    drain(worker)
    assert states(kit) == ["pending", "processed"]
    assert "raised SystemExit: enough" in kit.deliveries()[0]["reason"]


# ── unreadable and ignored deliveries, and their replay ───────────────────────────────────────────────────────


def test_data_that_does_not_fit_is_dead_at_once_and_processed_by_a_replay_after_a_fix(shop, kit, worker):
    answer = kit.send("shop", "product.updated", id="A1", data={"title": "Lamp"})
    assert drain(worker) == 1
    delivery = kit.delivery(answer)
    assert (delivery["state"], delivery["attempts_made"]) == ("dead", 1)
    assert delivery["reason"] == "The data is not what the dialect expects: name: Field required."

    @shop.on("product.updated", override=True)
    def upsert(event: Event[dict], mirror: Mirror) -> None:
        mirror.upsert(Product, event.entity_id, name=event.data["title"])

    assert kit.inbox.replay([int(answer.delivery)], now=kit.now()) == 1
    drain(worker)
    assert (kit.delivery(answer)["state"], kit.row(Product, "A1").name) == ("processed", "Lamp")


def test_an_unreadable_body_is_dead_and_processed_by_a_replay_after_a_fix(tmp_path, mirror_url):
    kit = Webhooks(tmp_path, {"shop": new_shop()}, database_url=mirror_url)
    answer = kit.send_body("shop", b'{"kind": "product.updated", "ref": "A1", "name": "Lamp"}')
    delivery = kit.delivery(answer)
    assert (delivery["state"], delivery["event_type"], delivery["entity"]) == ("dead", None, None)
    assert "type: Field required" in delivery["reason"]
    kit.close()

    mended = Dialect("shop", verify=HmacSha256(header="X-Webhook-Signature"))

    @mended.envelope
    def read(body: dict) -> Envelope:
        return Envelope(event_type=body["kind"], entity=("product", body["ref"]), occurred_at=NOON, data=body)

    @mended.on("product.*")
    def upsert(event: Event[dict], mirror: Mirror) -> None:
        mirror.upsert(Product, event.entity_id, name=event.data["name"])

    kit = Webhooks(tmp_path, {"shop": mended}, database_url=mirror_url)
    kit.source("shop")
    kit.inbox.replay([int(answer.delivery)], now=kit.now())
    kit.drain()
    delivery = kit.delivery(answer)
    assert (delivery["state"], delivery["event_type"], delivery["entity"]) == (
        "processed",
        "product.updated",
        "product:A1",
    )
    assert kit.row(Product, "A1").name == "Lamp"
    kit.close()


def test_a_duplicate_of_a_dead_delivery_makes_it_pending_again(shop, kit, worker):
    body = Body(type="product.updated", id="A1", timestamp=NOON, data={}).model_dump_json().encode()
    answer = kit.send_body("shop", body)
    drain(worker)
    assert kit.delivery(answer)["state"] == "dead"
    again = kit.send_body("shop", body)
    assert again.body == {"status": "duplicate", "delivery": answer.delivery}
    assert kit.delivery(answer)["state"] == "pending"
    drain(worker)
    assert (kit.delivery(answer)["state"], len(kit.delivery(answer)["attempts"])) == ("dead", 2)


def test_a_duplicate_of_a_processed_delivery_changes_nothing(kit, worker):
    first = kit.send("shop", "product.updated", id="A1", at=NOON, data=named())
    drain(worker)
    processed = kit.delivery(first)
    kit.send("shop", "product.updated", id="A1", at=NOON, data=named())
    assert drain(worker) == 0
    assert kit.delivery(first) == processed | {"duplicates": 1}


def test_a_duplicate_of_a_delivery_that_was_dead_on_arrival_has_no_attempt_to_take_back(kit):
    answers = [kit.send_body("shop", b"no JSON") for _ in range(2)]
    assert [answer.body["status"] for answer in answers] == ["accepted", "duplicate"]
    found = kit.delivery(answers[0])
    assert (found["state"], found["attempts_made"]) == ("pending", 0)


def test_an_event_type_without_a_handler_is_ignored_and_processed_once_it_has_one(shop, kit, worker):
    answer = kit.send("shop", "product.painted", id="A1")
    assert drain(worker) == 0
    assert kit.delivery(answer)["reason"] == "No handler takes product.painted."

    @shop.on("product.painted")
    def paint(event: Event, mirror: Mirror) -> None:
        mirror.upsert(Product, event.entity_id, name="painted")

    kit.inbox.replay([int(answer.delivery)], now=kit.now())
    drain(worker)
    assert (kit.delivery(answer)["state"], kit.row(Product, "A1").name) == ("processed", "painted")


# ── isolation of deliveries ───────────────────────────────────────────────────────────────────────────────────


def test_a_raising_handler_contributes_nothing_and_harms_no_other_in_the_batch(shop, kit, worker):
    @shop.on("product.broken")
    def fail(event: Event, mirror: Mirror) -> None:
        mirror.upsert(Product, event.entity_id, name="half done")
        raise ValueError("in the middle")

    for number in range(20):
        kit.send("shop", "product.broken" if number == 7 else "product.updated", id=f"A{number}", data=named())
    assert worker.work() == 20
    assert [state == "processed" for state in states(kit)] == [number != 7 for number in range(20)]
    assert "A7" not in [row.external_id for row in kit.rows(Product)]


def test_a_write_that_the_database_refuses_fails_only_its_own_delivery(kit, worker):
    kit.send("shop", "product.updated", id="A1", data=named("good"))
    guilty = kit.send("shop", "product.updated", id="A2", data=named("bad"))
    kit.send("shop", "product.updated", id="A3", data=named("good"))
    with refusing(kit.database, "products", "no bad names", row="NEW.name = 'bad'"):
        drain(worker)
        assert states(kit) == ["processed", "pending", "processed"]
        assert kit.delivery(guilty)["reason"] == "The mirror refused its rows: no bad names"
        assert [row.external_id for row in kit.rows(Product)] == ["A1", "A3"]
    kit.advance(hours=1)
    drain(worker)
    assert kit.delivery(guilty)["state"] == "processed"


def test_a_handler_that_read_what_the_database_refuses_then_reads_again(shop, kit, worker):
    @shop.on("product.seen")
    def see(event: Event, mirror: Mirror) -> None:
        row = mirror.get(Product, "A1")
        mirror.upsert(Product, event.entity_id, name="none" if row is None else row.name)

    kit.send("shop", "product.updated", id="A1", data=named("bad"))
    kit.send("shop", "product.seen", id="A2")
    with refusing(kit.database, "products", "no bad names", row="NEW.external_id = 'A1'"):
        assert worker.work() == 2
    assert states(kit) == ["pending", "processed"]
    assert kit.row(Product, "A2").name == "none"


@pytest.mark.parametrize("error", [Discard("A1 is enough."), ValueError("A1 is there.")])
def test_a_handler_that_ends_for_what_the_database_refuses_then_reads_again(shop, kit, worker, error):
    @shop.on("product.seen")
    def see(event: Event, mirror: Mirror) -> None:
        if mirror.get(Product, "A1") is not None:
            raise error
        mirror.upsert(Product, event.entity_id, name="instead")

    kit.send("shop", "product.updated", id="A1", data=named("bad"))
    kit.send("shop", "product.seen", id="A2")
    with refusing(kit.database, "products", "no bad names", row="NEW.external_id = 'A1'"):
        assert worker.work() == 2
    assert states(kit) == ["pending", "processed"]
    assert kit.row(Product, "A2").name == "instead"


@pytest.mark.parametrize(("hours", "told"), [(23, 0), (25, 1)])
def test_an_event_dated_more_than_a_day_in_the_future_is_logged(kit, worker, hours: int, told: int):
    answer = kit.send("shop", "product.updated", id="A1", at=kit.now() + timedelta(hours=hours), data=named())
    with capture_logs() as logs:
        worker.work()
    found = [(line["delivery"], line["source"]) for line in logs if "dated in the future" in line["event"]]
    assert found == [(int(answer.delivery), "shop")] * told
    assert kit.row(Product, "A1").name == "Lamp"


def test_a_sender_whose_clock_is_ahead_does_not_fill_the_log(kit, worker):
    for number in range(5):
        kit.send("shop", "product.updated", id=f"A{number}", at=kit.now() + timedelta(days=2), data=named())
    with capture_logs() as logs:
        worker.work()
    assert 0 < len([line for line in logs if "dated in the future" in line["event"]]) < 5


def test_many_dead_deliveries_of_a_source_do_not_fill_the_log(shop, kit, worker):
    @shop.on("product.broken")
    def refuse(event: Event, mirror: Mirror) -> None:
        raise Unreadable("The data is broken.")

    for number in range(5):
        kit.send("shop", "product.broken", id=f"A{number}")
    with capture_logs() as logs:
        worker.work()
    assert set(states(kit)) == {"dead"}
    dead = [line for line in logs if line["event"] == "a delivery is dead"]
    assert 0 < len(dead) < 5
    assert (dead[0]["source"], dead[0]["reason"]) == ("shop", "The data is broken.")


def test_a_delivery_of_an_unknown_source_waits_for_a_worker_that_knows_it(kit):
    answer = kit.send("shop", "product.updated", id="A1", data=named())
    stranger = Worker(kit.inbox, {}, clock=kit.now, jitter=lambda: 0.5)
    assert stranger.work() == 0
    stranger.close()
    assert kit.inbox.claim("w", ["another"], limit=1, now=kit.now(), lease=timedelta(minutes=1)) == []
    delivery = kit.delivery(answer)
    assert (delivery["state"], delivery["attempts_made"]) == ("pending", 0)
    kit.drain()
    assert kit.delivery(answer)["state"] == "processed"


@pytest.mark.parametrize("requests_wait", [True, False])
def test_while_requests_wait_for_sqlite_s_only_writer_a_batch_is_settled_in_turns(kit, settled, requests_wait):
    for number in range(30):
        kit.send("shop", "product.updated", id=f"A{number}", data=named())
    worker = new_worker(kit, requests_wait=lambda: requests_wait)
    assert worker.work() == 30
    in_turns = requests_wait and not kit.database.is_postgresql
    assert settled == ([25, 5] if in_turns else [30])
    assert set(states(kit)) == {"processed"}
    worker.close()


@pytest.mark.parametrize("requests_wait", [True, False])
def test_while_requests_wait_for_sqlite_s_only_writer_few_deliveries_are_claimed_at_once(kit, requests_wait):
    for number in range(60):
        kit.send("shop", "product.updated", id=f"A{number}", data=named())
    worker = new_worker(kit, requests_wait=lambda: requests_wait)
    few = requests_wait and not kit.database.is_postgresql
    assert [worker.work(), worker.work()] == ([50, 10] if few else [60, 0])
    assert set(states(kit)) == {"processed"}
    worker.close()


def test_a_later_turn_builds_on_the_result_of_an_earlier_one(shop, kit, settled):
    @shop.on("product.counted")
    def count(event: Event, mirror: Mirror) -> None:
        row = mirror.get(Product, "A1")
        mirror.upsert(Product, "A1", name=str(int(row.name) + 1 if row and row.name else 1))

    for number in range(60):
        kit.send("shop", "product.counted", id=f"N{number}", at=NOON + timedelta(seconds=number))
    worker = new_worker(kit, requests_wait=lambda: True)
    drain(worker)
    assert len(settled) == (1 if kit.database.is_postgresql else 3)
    assert kit.row(Product, "A1").name == "60"
    worker.close()


def test_the_lease_of_a_whole_batch_is_extended_while_its_first_turns_take_long(shop, kit):
    left = []

    @shop.on("product.slow")
    def take_long(event: Event, mirror: Mirror) -> None:
        kit.advance(seconds=30)
        left.append(kit.inbox.reclaim(now=kit.now(), dead=[], max_attempts=10))

    for number in range(30):
        kit.send("shop", "product.slow", id=f"A{number}")
    worker = new_worker(kit, lease=timedelta(seconds=60), requests_wait=lambda: True)
    assert worker.work() == 30
    assert left == [[]] * 30
    assert set(states(kit)) == {"processed"}
    worker.close()


def test_a_claim_and_a_settlement_wait_for_the_disk(kit, worker):
    kit.send("shop", "product.updated", id="A1", data=named())
    waits = []

    def ask(connection, cursor, statement, *_):
        if statement.startswith("UPDATE deliveries"):
            asked = "SHOW synchronous_commit" if kit.database.is_postgresql else "PRAGMA synchronous"
            waits.append(str(cursor.connection.execute(asked).fetchone()[0]))

    event.listen(kit.database.engine, "after_cursor_execute", ask)
    assert worker.work() == 1
    full = "2"
    assert waits == (["on", "on"] if kit.database.is_postgresql else [full, full])


def test_an_unknown_column_fails_the_attempt_with_its_name(shop, kit, worker):
    @shop.on("product.typo")
    def misspell(event: Event, mirror: Mirror) -> None:
        mirror.upsert(Product, event.entity_id, nmae="Lamp")

    answer = kit.send("shop", "product.typo", id="A1")
    drain(worker)
    assert "Product has no column `nmae`: it has" in kit.delivery(answer)["reason"]
