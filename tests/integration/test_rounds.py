"""Rounds: every way of a delivery from pending to its end is kept, with its cause and its outcome."""

from __future__ import annotations

import threading
from contextlib import closing
from datetime import timedelta

import httpx
import pytest
from shopping import NOON, drain, named, new_worker
from sqlalchemy import update
from systems import ON_BOTH, database_system  # noqa: F401
from waiting import TIMEOUT

from receiver import Event, Mirror, SourceSettings
from receiver.inbox.duplicates import FREE_ROUNDS, STAYS_DEAD
from receiver.inbox.retention import Retention
from receiver.inbox.tables import DELIVERIES
from receiver.release import release


@pytest.fixture
def lamp(kit):
    """Send a delivery of a lamp, whose data fits the handler or not; return its id."""

    def send(data=None) -> str:
        return kit.send("shop", "product.updated", id="A1", at=NOON, data=named() if data is None else data).delivery

    return send


def begin(kit, *ids: str, cause: str = "replay", run: int | None = None) -> int:
    with kit.database.write() as connection:
        return kit.inbox.begin_round(connection, [int(each) for each in ids], cause=cause, run=run, now=kit.now())


def try_now(kit, *ids: str) -> int:
    with kit.database.write() as connection:
        return kit.inbox.try_now(connection, [int(each) for each in ids], now=kit.now())


def ends(kit, delivery: str) -> list[tuple]:
    """Return number, cause, state, outcome and reason of each round."""
    names = ("number", "cause", "state", "outcome", "reason")
    return [tuple(each[name] for name in names) for each in kit.delivery(delivery)["rounds"]]


@ON_BOTH
def test_a_delivery_begins_with_an_open_round(kit, lamp):
    delivery = lamp()
    (first,) = kit.delivery(delivery)["rounds"]
    assert first["began_at"] == kit.delivery(delivery)["received_at"]
    assert (first["ended_at"], first["run"], first["action"], first["attempts"]) == (None, None, None, [])
    assert ends(kit, delivery) == [(1, "accepted", "pending", None, None)]


def test_a_first_round_needs_no_row(kit, worker, lamp):
    lamp()
    drain(worker)
    with kit.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM rounds").scalar() == 0


@ON_BOTH
def test_a_replay_leaves_the_first_result_readable(kit, worker, lamp):
    delivery = lamp()
    drain(worker)
    before = kit.delivery(delivery)["ended_at"]
    assert kit.inbox.replay([int(delivery)], now=kit.now()) == 1
    assert ends(kit, delivery) == [
        (1, "accepted", "processed", "applied", None),
        (2, "replay", "pending", None, None),
    ]
    assert kit.delivery(delivery)["rounds"][0]["ended_at"] == before
    drain(worker)
    assert ends(kit, delivery)[1] == (2, "replay", "processed", "unchanged", None)


@ON_BOTH
def test_the_reason_of_a_dead_round_is_kept_after_its_replay(kit, worker, lamp):
    delivery = lamp({"name": 1})
    drain(worker)
    begin(kit, delivery)
    begin(kit, delivery)
    drain(worker)
    begin(kit, delivery)
    first, second, third = ends(kit, delivery)
    assert first[:3] == (1, "accepted", "dead")
    assert "data" in first[4]
    assert second == (2, "replay", "dead", None, first[4])
    assert third == (3, "replay", "pending", None, None)


def test_a_round_names_the_run_and_action_that_began_it_and_the_time(kit, worker, lamp):
    delivery = lamp()
    drain(worker)
    now = kit.now()
    kit.inbox.replay([int(delivery)], now=now, cause="rebuild", run=81, action=7)
    second = kit.delivery(delivery)["rounds"][1]
    assert (second["cause"], second["run"], second["action"], second["began_at"]) == ("rebuild", 81, 7, now)


@ON_BOTH
def test_a_duplicate_of_a_dead_delivery_begins_a_round(kit, worker, lamp):
    delivery = lamp({"name": 1})
    drain(worker)
    assert lamp({"name": 1}) == delivery
    assert [each[:3] for each in ends(kit, delivery)] == [(1, "accepted", "dead"), (2, "duplicate", "pending")]
    assert lamp({"name": 1}) == delivery
    assert len(ends(kit, delivery)) == 2


@ON_BOTH
def test_a_dead_delivery_that_is_repeated_without_end_begins_some_rounds_and_then_rests_before_each(kit, worker, lamp):
    delivery = lamp({"name": 1})
    drain(worker)
    for _ in range(FREE_ROUNDS + 5):
        assert lamp({"name": 1}) == delivery
        drain(worker)
    assert [each[:3] for each in ends(kit, delivery)][-1] == (FREE_ROUNDS + 1, "duplicate", "dead")
    assert kit.delivery(delivery)["duplicates"] == FREE_ROUNDS + 5
    with kit.database.write() as connection:
        connection.execute(update(DELIVERIES).values(ended_at=kit.now() - STAYS_DEAD))
    assert lamp({"name": 1}) == delivery
    assert ends(kit, delivery)[-1][:3] == (FREE_ROUNDS + 2, "duplicate", "pending")


def test_a_duplicate_of_a_delivery_that_is_not_dead_begins_no_round(kit, worker, lamp):
    delivery = lamp()
    lamp()
    drain(worker)
    lamp()
    assert ends(kit, delivery) == [(1, "accepted", "processed", "applied", None)]
    assert kit.delivery(delivery)["duplicates"] == 2


def test_an_open_delivery_or_one_without_a_body_begins_no_round(kit, worker, lamp):
    delivery = lamp()
    assert begin(kit, delivery) == 0
    kit.inbox.claim("another", ["shop"], limit=1, now=kit.now(), lease=timedelta(minutes=1))
    assert begin(kit, delivery) == 0
    kit.inbox.release("another")
    drain(worker)
    with kit.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM bodies")
    assert begin(kit, delivery, "1", str(2**62)) == 0
    assert ends(kit, delivery) == [(1, "accepted", "processed", "applied", None)]


@ON_BOTH
def test_a_delivery_named_twice_begins_one_round(kit, worker, lamp):
    delivery = lamp()
    drain(worker)
    assert begin(kit, delivery, delivery) == 1
    assert begin(kit) == 0
    assert len(ends(kit, delivery)) == 2


@ON_BOTH
def test_a_round_that_the_caller_rolls_back_does_not_exist(kit, worker, lamp):
    delivery = lamp()
    drain(worker)

    def begin_and_fail() -> None:
        with kit.database.write() as connection:
            assert kit.inbox.begin_round(connection, [int(delivery)], cause="replay", run=1, now=kit.now()) == 1
            raise RuntimeError("the caller changed its mind")

    with pytest.raises(RuntimeError, match="changed its mind"):
        begin_and_fail()
    assert ends(kit, delivery) == [(1, "accepted", "processed", "applied", None)]


@ON_BOTH
def test_rounds_are_pruned_with_their_delivery(kit, worker, lamp):
    delivery = lamp()
    drain(worker)
    begin(kit, delivery)
    drain(worker)
    kit.advance(days=401)
    retention = Retention(bodies=timedelta(days=30), dedup_keys=timedelta(days=400))
    assert retention.prune(kit.database, now=kit.now()) + retention.prune(kit.database, now=kit.now()) == 2
    with kit.database.read() as connection:
        for table in ("deliveries", "rounds", "attempts"):
            assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() == 0, table


# ── attempts ──────────────────────────────────────────────────────────────────────────────────────────────────────


def attempts(kit, delivery: str) -> list[dict]:
    return [attempt for each in kit.delivery(delivery)["rounds"] for attempt in each["attempts"]]


@ON_BOTH
def test_a_good_attempt_is_kept_with_its_handler_release_and_times(kit, worker, lamp):
    delivery = lamp()
    drain(worker)
    (good,) = attempts(kit, delivery)
    assert (good["number"], good["failed"], good["reason"], good["traceback"]) == (1, False, None, None)
    assert (good["worker"], good["release"]) == (worker.name, release())
    assert good["handler"] == "shopping.new_shop.<locals>.upsert"
    assert good["ended_at"] == kit.delivery(delivery)["ended_at"]
    assert good["hydrate_ms"] is None
    assert 0 < good["handle_ms"] < TIMEOUT * 1_000
    assert 0 < good["settle_ms"] < TIMEOUT * 1_000
    assert kit.delivery(delivery)["attempts"] == []


@ON_BOTH
def test_a_failed_attempt_is_kept_with_a_bounded_traceback(shop, kit, worker):
    def fall(depth: int) -> None:
        if not depth:
            raise ValueError("hit the bottom" + "!" * 50_000)
        fall(depth - 1)

    @shop.on("product.deep")
    def dig(event: Event, mirror: Mirror) -> None:
        fall(200)

    delivery = kit.send("shop", "product.deep", id="A1").delivery
    drain(worker)
    (failed,) = attempts(kit, delivery)
    assert (failed["failed"], failed["handler"].endswith("dig")) == (True, True)
    assert failed["traceback"].startswith("Traceback (most recent call last):")
    assert len(failed["traceback"]) < 5_000
    assert failed["handle_ms"] > 0


def test_an_attempt_that_reached_no_handler_names_none(kit, worker, lamp):
    delivery = kit.send("shop", "product.painted", id="A1").delivery
    begin(kit, delivery)
    drain(worker)
    (ignored,) = attempts(kit, delivery)
    assert (ignored["failed"], ignored["handler"], ignored["handle_ms"]) == (False, None, None)
    assert kit.delivery(delivery)["rounds"][1]["reason"] == "No handler takes product.painted."


def test_the_times_of_hydrating_and_handling_are_kept_separately(shop, kit):
    called = threading.Event()

    @shop.connect
    def connect(source: SourceSettings) -> httpx.Client:
        return httpx.Client(base_url=source.api_url)

    @shop.hydrate("product.updated")
    def fetch(event: Event, api: httpx.Client) -> None:
        called.wait(0.05)

    kit.source("shop", api_url="http://api.test", secrets=["TestSecretOf32CharactersForTests"])
    delivery = kit.send("shop", "product.updated", id="A1", at=NOON, data=named()).delivery
    with closing(new_worker(kit)) as worker:
        drain(worker)
    (good,) = attempts(kit, delivery)
    assert good["hydrate_ms"] >= 50
    assert good["handle_ms"] is not None


def test_attempts_belong_to_the_round_in_which_they_were_made(kit, worker, lamp, failing):
    try_now(kit, failing)
    drain(worker)
    begin(kit, failing)
    drain(worker)
    first, second = kit.delivery(failing)["rounds"]
    assert [(each["number"], each["failed"]) for each in first["attempts"]] == [(1, True), (2, False)]
    assert [(each["number"], each["failed"]) for each in second["attempts"]] == [(1, False)]


@ON_BOTH
def test_an_attempt_whose_worker_vanished_is_kept_without_a_handler(kit, lamp):
    delivery = lamp()
    kit.inbox.claim("gone", ["shop"], limit=1, now=kit.now(), lease=timedelta(minutes=1))
    kit.inbox.reclaim(now=kit.now(), dead=["gone"], max_attempts=10)
    (lost,) = attempts(kit, delivery)
    assert (lost["worker"], lost["failed"], lost["handler"], lost["release"]) == ("gone", True, None, None)


@ON_BOTH
def test_more_attempts_than_one_statement_takes_are_kept_each_once(kit, worker):
    sent = [kit.send("shop", "product.updated", id=f"A{number}", at=NOON, data=named()) for number in range(150)]
    drain(worker)
    assert all(len(attempts(kit, each.delivery)) == 1 for each in sent)
    with kit.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM attempts").scalar() == 0


@ON_BOTH
def test_attempts_of_one_batch_are_kept_by_handler_and_round(shop, kit, worker, lamp):
    replayed = lamp()
    drain(worker)
    begin(kit, replayed)
    updated = kit.send("shop", "product.updated", id="A2", at=NOON, data=named()).delivery
    deleted = kit.send("shop", "product.deleted", id="A3", at=NOON).delivery
    drain(worker)
    assert [[each["handler"].rpartition(".")[2] for each in attempts(kit, one)] for one in (updated, deleted)] == [
        ["upsert"],
        ["deactivate"],
    ]
    rounds = kit.delivery(replayed)["rounds"]
    assert [[attempt["number"] for attempt in each["attempts"]] for each in rounds] == [[1], [1]]
    with kit.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM settlements").scalar() == 2


@ON_BOTH
def test_a_delivery_settled_twice_at_the_same_time_has_both_attempts(kit, lamp, monkeypatch):
    delivery, moment = lamp(), kit.now()
    monkeypatch.setattr(kit, "now", lambda: moment)
    with closing(new_worker(kit)) as worker:
        drain(worker)
        begin(kit, delivery)
        drain(worker)
    rounds = kit.delivery(delivery)["rounds"]
    assert [each["ended_at"] for each in rounds] == [moment, moment]
    assert [len(each["attempts"]) for each in rounds] == [1, 1]


@ON_BOTH
def test_tracebacks_are_dropped_with_the_bodies_and_reasons_stay(kit, worker, failing):
    kit.advance(days=2)
    drain(worker)
    kit.advance(days=31)
    retention = Retention(bodies=timedelta(days=30), dedup_keys=timedelta(days=400))
    assert attempts(kit, failing)[0]["traceback"]
    assert retention.prune(kit.database, now=kit.now()) == 1
    assert [(each["reason"] is None, each["traceback"]) for each in attempts(kit, failing)] == [
        (False, None),
        (True, None),
    ]


# ── immediate attempts ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def failing(shop, kit, worker):
    """Return the id of a delivery that has failed once and waits."""
    mended = []

    @shop.on("product.broken")
    def fail(event: Event, mirror: Mirror) -> None:
        if not mended:
            raise ValueError("not yet")

    delivery = kit.send("shop", "product.broken", id="A1", at=NOON).delivery
    drain(worker)
    mended.append(True)
    return delivery


@ON_BOTH
def test_a_delivery_that_waits_for_its_next_attempt_can_be_tried_now(kit, worker, failing):
    assert drain(worker) == 0
    assert try_now(kit, failing) == 1
    assert (kit.delivery(failing)["attempts_made"], len(ends(kit, failing))) == (1, 1)
    assert drain(worker) == 1
    assert (kit.delivery(failing)["state"], kit.delivery(failing)["attempts_made"]) == ("processed", 2)


def test_a_due_claimed_or_ended_delivery_is_not_made_due(kit, worker, failing, lamp):
    due = lamp()
    assert try_now(kit, due) == 0
    assert try_now(kit, failing, failing) == 1
    (held, _) = kit.inbox.claim("another", ["shop"], limit=2, now=kit.now(), lease=timedelta(minutes=1))
    assert try_now(kit, str(held.id), failing) == 0
    assert kit.delivery(failing)["state"] == "processing"
    kit.inbox.release("another")
    drain(worker)
    assert try_now(kit, due, failing, "1") == 0
    assert kit.delivery(due)["state"] == "processed"
