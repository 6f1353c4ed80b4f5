"""Retention drops bodies after 30 days, deliveries with their dedup keys after 400, and open deliveries never."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import timedelta

import pytest
from serving import TIMEOUT, wait_until
from shopping import NOON, drain, named, new_worker, running, states
from sqlalchemy.exc import IntegrityError
from structlog.testing import capture_logs

from handlers.catalog import Product
from receiver import Event, Mirror
from receiver.database.database import Database
from receiver.inbox import retention
from receiver.inbox.retention import Retention
from receiver.worker.retention import RetentionTurns

KEPT = Retention(bodies=timedelta(days=30), dedup_keys=timedelta(days=400))


@pytest.fixture
def prune(kit):
    """Prune everything that has expired by the kit's clock; return the number of deliveries concerned."""
    return lambda: sum(iter(lambda: KEPT.prune(kit.database, now=kit.now()), 0))


@pytest.fixture
def lamp(kit):
    """Make a delivery of the same lamp."""
    return lambda: kit.send("shop", "product.updated", id="A1", at=NOON, data=named())


def test_a_body_is_kept_for_its_days_and_then_dropped_with_its_headers(kit, worker, prune, lamp):
    answer = lamp()
    drain(worker)
    kit.advance(days=29)
    assert prune() == 0
    assert '"Lamp"' in kit.delivery(answer)["body"]
    kit.advance(days=2)
    assert prune() == 1
    delivery = kit.delivery(answer)
    assert (delivery["body"], delivery["plain"], delivery["headers"], delivery["state"]) == (
        None,
        None,
        {},
        "processed",
    )


def test_a_duplicate_is_recognised_long_after_the_body_is_gone(kit, worker, prune, lamp):
    first = lamp()
    drain(worker)
    kit.advance(days=399)
    prune()
    assert lamp().body == {"status": "duplicate", "delivery": first.delivery}


def test_a_webhook_repeated_after_its_dedup_key_expired_is_new_and_changes_nothing(kit, worker, prune, lamp):
    first = lamp()
    drain(worker)
    kit.advance(days=401)
    assert prune() >= 1
    assert kit.deliveries() == []
    again = lamp()
    assert again.body["status"] == "accepted"
    assert again.delivery != first.delivery
    drain(worker)
    assert kit.delivery(again)["state"] == "processed"
    assert kit.row(Product, "A1").name == "Lamp"


def test_the_mirror_outlives_every_delivery(kit, worker, prune, lamp):
    lamp()
    drain(worker)
    kit.advance(days=4_000)
    prune()
    assert kit.row(Product, "A1").active


def test_open_deliveries_are_kept_whatever_their_age(shop, kit, worker, prune):
    @shop.on("product.broken")
    def fail(event: Event, mirror: Mirror) -> None:
        raise ValueError

    answer = kit.send("shop", "product.broken", id="A1")
    drain(worker)
    kit.advance(days=1_000)
    assert prune() == 0
    assert '"product.broken"' in kit.delivery(answer)["body"]


@pytest.mark.parametrize("delete", [retention._delete_bodies, retention._delete_deliveries])
def test_a_delivery_that_is_replayed_after_it_was_found_to_be_expired_keeps_everything(kit, worker, lamp, delete):
    answer = lamp()
    drain(worker)
    kit.inbox.replay([int(answer.delivery)], now=kit.now())
    assert delete(kit.database, [int(answer.delivery)]) == 0
    assert '"product.updated"' in kit.delivery(answer)["body"]


def test_a_replay_after_the_body_expired_does_not_change_the_delivery(kit, worker, prune, lamp):
    answer = lamp()
    drain(worker)
    kit.advance(days=31)
    prune()
    kit.inbox.replay([int(answer.delivery)], now=kit.now())
    drain(worker)
    delivery = kit.delivery(answer)
    assert (delivery["state"], delivery["outcome"]) == ("processed", "applied")


def test_attempts_of_a_dead_delivery_are_pruned_with_it(kit, worker, prune):
    kit.send("shop", "product.updated", id="A1", data={})
    drain(worker)
    assert states(kit) == ["dead"]
    kit.advance(days=401)
    prune()
    with kit.database.read() as connection:
        for table in ("deliveries", "bodies", "dedup_keys", "attempts"):
            assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() == 0


def settlements(kit) -> int:
    with kit.database.read() as connection:
        return connection.exec_driver_sql("SELECT count(*) FROM settlements").scalar()


def test_settlements_are_pruned_after_the_last_of_their_deliveries(kit, worker, prune, lamp):
    lamp()
    drain(worker)
    kit.advance(days=399)
    prune()
    assert settlements(kit) == 1
    kit.advance(days=3)
    prune()
    assert settlements(kit) == 0


def test_an_open_delivery_keeps_the_attempts_of_its_earlier_rounds(kit, worker, prune, lamp):
    delivery = lamp()
    drain(worker)
    kit.inbox.replay([int(delivery.delivery)], now=kit.now())
    kit.advance(days=1_000)
    assert prune() == 0
    assert [len(each["attempts"]) for each in kit.delivery(delivery)["rounds"]] == [1, 0]


def test_settlements_are_pruned_in_batches_too(kit, worker, prune, lamp, monkeypatch):
    monkeypatch.setattr("receiver.inbox.retention.BATCH", 1)
    delivery = lamp()
    for _ in range(5):
        drain(worker)
        kit.inbox.replay([int(delivery.delivery)], now=kit.now())
    drain(worker)
    assert settlements(kit) == 6
    kit.advance(days=402)
    left = [(KEPT.prune(kit.database, now=kit.now()), settlements(kit)) for _ in range(4)]
    assert left == [(1, 6), (1, 4), (0, 2), (0, 0)]


def test_large_bodies_are_pruned_in_smaller_batches(kit, monkeypatch):
    """Deleting hundreds of megabytes at once would keep SQLite's one writer busy for seconds."""
    for key in "abcde":
        kit.send("shop", "product.odd", id=key, at=NOON, data={"note": "x" * 1_000})
    monkeypatch.setattr("receiver.inbox.retention.BATCH_BYTES", 2_000)
    kit.advance(days=31)
    assert [KEPT.prune(kit.database, now=kit.now()) for _ in range(4)] == [2, 2, 1, 0]


def test_more_than_one_batch_is_pruned_in_steps(kit, monkeypatch):
    monkeypatch.setattr("receiver.inbox.retention.BATCH", 4)
    for number in range(10):
        kit.send("shop", "product.painted", id=f"A{number}")
    kit.advance(days=31)
    assert [KEPT.prune(kit.database, now=kit.now()) for _ in range(4)] == [4, 4, 2, 0]


@pytest.mark.parametrize(("table", "days"), [("bodies", 31), ("deliveries", 401)])
def test_a_batch_that_another_process_drops_meanwhile_does_not_end_the_pruning(kit, monkeypatch, table, days):
    monkeypatch.setattr("receiver.inbox.retention.BATCH", 4)
    for number in range(11):
        kit.send("shop", "product.painted", id=f"A{number}")
    kit.advance(days=days)
    own, delete = replace(KEPT), getattr(retention, f"_delete_{table}")

    dropped: list[int] = []

    def late(database: Database, ids: Sequence[int]) -> int:
        """Let another process drop the first batch before."""
        if not dropped:
            dropped.append(delete(database, ids))
        return delete(database, ids)

    monkeypatch.setattr(f"receiver.inbox.retention._delete_{table}", late)
    while own.prune(kit.database, now=kit.now()):
        pass
    with kit.database.read() as connection:
        left = connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar()
    assert (dropped, left) == ([4], 0)


def prune_beside_locks(kit, ids: list[str]) -> None:
    """Prune to the end while another session holds these deliveries."""
    own = replace(KEPT)
    with kit.database.engine.connect() as holding:
        holding.exec_driver_sql(f"SELECT 1 FROM deliveries WHERE id IN ({', '.join(ids)}) FOR UPDATE")
        while own.prune(kit.database, now=kit.now()):
            pass


@pytest.mark.parametrize(("table", "days"), [("bodies", 31), ("deliveries", 401)])
def test_a_whole_batch_of_locked_deliveries_does_not_end_the_pruning(kit, monkeypatch, table, days):
    if not kit.database.is_postgresql:
        pytest.skip("SQLite has no locks of rows")
    monkeypatch.setattr("receiver.inbox.retention.BATCH", 4)
    ids = [kit.send("shop", "product.painted", id=f"A{number}").delivery for number in range(11)]
    kit.advance(days=days)
    prune_beside_locks(kit, ids[:5])
    with kit.database.read() as connection:
        assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() == 5


def test_a_worker_and_a_run_that_prune_in_one_process_take_turns(kit, monkeypatch):
    monkeypatch.setattr("receiver.inbox.retention.BATCH", 4)
    for number in range(6):
        kit.send("shop", "product.painted", id=f"A{number}")
    kit.advance(days=31)
    own, delete = replace(KEPT), retention._delete_bodies
    begun, may_end = threading.Event(), threading.Event()
    batches: list[int] = []

    def slow(database: Database, ids: Sequence[int]) -> int:
        batches.append(len(ids))
        begun.set()
        assert may_end.wait(TIMEOUT)
        return delete(database, ids)

    monkeypatch.setattr("receiver.inbox.retention._delete_bodies", slow)
    with ThreadPoolExecutor(2) as pool:
        pruning = [pool.submit(own.prune, kit.database, now=kit.now())]
        assert begun.wait(TIMEOUT)
        pruning.append(pool.submit(own.prune, kit.database, now=kit.now()))
        assert not wait([pruning[1]], timeout=0.3).done
        assert batches == [4]
        may_end.set()
        assert [each.result(TIMEOUT) for each in pruning] == [4, 2]


def test_a_running_worker_prunes_by_itself(kit, worker, lamp):
    answer = lamp()
    drain(worker)
    kit.advance(days=31)
    with running(new_worker(kit, retention=KEPT)):
        wait_until(lambda: kit.delivery(answer)["body"] is None, "the worker's pruning")


def test_a_failing_prune_delays_no_delivery(kit, monkeypatch):
    tries = []

    def fail(self, database, *, now):
        tries.append(now)
        raise RuntimeError("a foreign key of somebody else's")

    monkeypatch.setattr(Retention, "prune", fail)
    answers = [kit.send("shop", "product.updated", id=f"A{number}", at=NOON, data=named()) for number in range(60)]
    with running(new_worker(kit, retention=KEPT)):
        wait_until(lambda: all(kit.delivery(each)["state"] == "processed" for each in answers), "all are processed")
    assert len(tries) == 1


# ── rows that cannot be dropped ───────────────────────────────────────────────────────────────────────────────────────


def refuse_to_drop(kit, table: str, key: str, ids: list[str]) -> None:
    """Let a table of a user's refer to these rows."""
    with kit.database.write() as connection:
        if kit.database.is_postgresql:
            connection.exec_driver_sql(f"CREATE TABLE audits (kept BIGINT REFERENCES {table} ({key}))")
            connection.exec_driver_sql(f"INSERT INTO audits VALUES ({'), ('.join(ids)})")
        else:
            connection.exec_driver_sql(
                f"CREATE TRIGGER audits BEFORE DELETE ON {table} WHEN OLD.{key} IN ({', '.join(ids)}) "
                "BEGIN SELECT RAISE(ABORT, 'audits refers to it'); END"
            )


def allow_to_drop(kit) -> None:
    with kit.database.write() as connection:
        kind = "TABLE" if kit.database.is_postgresql else "TRIGGER"
        connection.exec_driver_sql(f"DROP {kind} audits")


@pytest.mark.parametrize(("table", "key", "days"), [("bodies", "delivery_id", 31), ("deliveries", "id", 401)])
def test_a_row_whose_deletion_is_refused_is_reported_and_keeps_no_other(kit, monkeypatch, table, key, days):
    monkeypatch.setattr("receiver.inbox.retention.BATCH", 4)
    ids = [kit.send("shop", "product.painted", id=f"A{number}").delivery for number in range(11)]
    refuse_to_drop(kit, table, key, [ids[1], ids[2], ids[10]])
    kit.advance(days=days)
    kept = replace(KEPT)

    def left() -> list[str]:
        with kit.database.read() as connection:
            found = connection.exec_driver_sql(f"SELECT {key} FROM {table} ORDER BY {key}").scalars().all()
        return [str(each) for each in found]

    with capture_logs() as told:
        while kept.prune(kit.database, now=kit.now()):
            pass
        assert kept.prune(kit.database, now=kit.now()) == 0
    assert left() == [ids[1], ids[2], ids[10]]
    assert [(each["kind"], str(each["id"])) for each in told] == [
        ({"bodies": "body", "deliveries": "delivery"}[table], each) for each in left()
    ]
    assert all("audits" in each["error"] for each in told)
    allow_to_drop(kit)
    assert kept.prune(kit.database, now=kit.now()) == 0
    kit.advance(hours=1)
    assert kept.prune(kit.database, now=kit.now()) == 3


def test_a_locked_row_behind_a_refused_one_keeps_no_other(kit, monkeypatch):
    if not kit.database.is_postgresql:
        pytest.skip("SQLite has no locks of rows")
    monkeypatch.setattr("receiver.inbox.retention.BATCH", 4)
    ids = [kit.send("shop", "product.painted", id=f"A{number}").delivery for number in range(11)]
    refuse_to_drop(kit, "deliveries", "id", ids[:1])
    kit.advance(days=401)
    prune_beside_locks(kit, ids[1:2])
    with kit.database.read() as connection:
        left = connection.exec_driver_sql("SELECT id FROM deliveries ORDER BY id").scalars().all()
    assert [str(each) for each in left] == ids[:2]


def test_a_rule_that_refuses_most_rows_fails_the_retention(kit, monkeypatch):
    monkeypatch.setattr("receiver.inbox.retention.MOST_REFUSED", 2)
    refuse_to_drop(kit, "bodies", "delivery_id", [kit.send("shop", "moon.rose", id=f"A{n}").delivery for n in range(4)])
    kit.advance(days=31)
    with pytest.raises(IntegrityError, match="audits"):
        replace(KEPT).prune(kit.database, now=kit.now())


def test_a_kind_of_rows_that_cannot_be_dropped_delays_no_other_kind(kit, worker, lamp):
    tries: list[str] = []

    def fail(*_):
        tries.append("failing")
        raise RuntimeError("no such table")

    def drop(*_):
        tries.append("dropping")
        return len(tries) < 4

    answer = lamp()
    drain(worker)
    kit.advance(days=31)
    turns = RetentionTurns(replace(KEPT, others=(fail, drop)), kit.database, now=kit.now())
    for _ in range(5):
        turns.take(kit.now())
        kit.advance(seconds=1)
    assert kit.delivery(answer)["body"] is None
    assert tries == ["failing", "dropping", "dropping", "dropping"]
    kit.advance(hours=1)
    turns.take(kit.now())
    assert tries[4:] == ["failing", "dropping"]
