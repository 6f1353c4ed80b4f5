"""Several workers on one database, some of which hang or die: no delivery is doubled, lost or delayed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial

import pytest
from crashing import start_worker
from serving import TIMEOUT, wait_until
from shopping import NOON, drain, inbox_of_another_process, named, new_worker, running, states, url_of
from structlog.testing import capture_logs

from handlers.catalog import Product
from receiver import Event, Mirror
from receiver.findings.counting import take_snapshot
from receiver.worker.reclaiming import Reclaiming
from receiver.worker.thread import WorkerThread


class Gate:
    """Stops a handler until the test opens it."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._opened = threading.Event()

    def pass_through(self) -> None:
        self.reached.set()
        assert self._opened.wait(TIMEOUT), "nobody opened the gate"

    def open(self) -> None:
        self._opened.set()


@pytest.fixture
def gate(shop):
    """Make updates of the product SLOW wait here; all others pass."""
    gate = Gate()

    @shop.on("product.updated", override=True)
    def upsert(event: Event[dict], mirror: Mirror) -> None:
        if event.entity_id == "SLOW" and event.attempt == 1:
            gate.pass_through()
        mirror.upsert(Product, event.entity_id, name=event.data["name"])

    yield gate
    gate.open()


@pytest.fixture
def other(kit):
    """Make a worker like that of another process, with separate connections and locks."""
    inbox = inbox_of_another_process(kit)
    working = new_worker(kit, inbox=inbox)
    yield working
    working.close()
    inbox.database.close()


# ── one entity, one worker ────────────────────────────────────────────────────────────────────────────────────


def test_while_one_worker_has_an_entity_the_others_skip_it_and_do_the_rest(kit, gate, other):
    first = new_worker(kit, batch_size=1)
    with ThreadPoolExecutor() as pool:
        kit.send("shop", "product.updated", id="SLOW", at=NOON, data=named("first"))
        slow = pool.submit(first.work)
        assert gate.reached.wait(TIMEOUT)
        kit.send("shop", "product.updated", id="SLOW", at=NOON + timedelta(minutes=1), data=named("second"))
        kit.send("shop", "product.updated", id="FAST", data=named())
        assert drain(other) == 1
        assert states(kit) == ["processing", "pending", "processed"]
        gate.open()
        assert slow.result(TIMEOUT) == 1
    assert drain(other) == 1
    assert kit.row(Product, "SLOW").name == "second"
    first.close()


def test_two_workers_at_full_speed_work_on_each_delivery_once_and_never_on_one_entity_together(shop, kit, other):
    lock, at_work, overlaps, handled = threading.Lock(), set(), [], []

    @shop.on("product.updated", override=True)
    def upsert(event: Event[dict], mirror: Mirror) -> None:
        with lock:
            handled.append(event.delivery_id)
            overlaps.extend(at_work & {event.entity_id})
            at_work.add(event.entity_id)
        mirror.get(Product, event.entity_id)
        mirror.upsert(Product, event.entity_id, name=event.data["name"])
        with lock:
            at_work.discard(event.entity_id)

    for number in range(60):
        at = NOON + timedelta(seconds=number)
        kit.send("shop", "product.updated", id=f"A{number % 5}", at=at, data=named(f"{number}"))
    mine = new_worker(kit, batch_size=3)
    with running(mine), running(other):
        wait_until(lambda: set(states(kit)) == {"processed"}, "both workers to finish")
    assert overlaps == []
    assert len(handled) == len(set(handled)) == 60
    assert [row.name for row in kit.rows(Product)] == ["55", "56", "57", "58", "59"]


# ── workers that hang, stop or die ────────────────────────────────────────────────────────────────────────────


def test_a_delivery_whose_lease_ended_is_reclaimed_and_the_late_result_is_not_applied(kit, gate, other):
    late = new_worker(kit)
    answer = kit.send("shop", "product.updated", id="SLOW", data=named("Lamp"))
    with ThreadPoolExecutor() as pool:
        hanging = pool.submit(late.work)
        assert gate.reached.wait(TIMEOUT)
        kit.advance(seconds=61)
        with running(other):
            wait_until(lambda: states(kit) == ["processed"], "the other worker")
        before = kit.delivery(answer)
        gate.open()
        hanging.result(TIMEOUT)
    late.close()
    after = kit.delivery(answer)
    assert after == before
    assert (after["attempts_made"], [each["number"] for each in after["attempts"]]) == (2, [1])
    assert after["attempts"][0]["reason"] == "The worker stopped or hung during this attempt."


@pytest.mark.parametrize(
    "verb",
    [
        lambda inbox, ids: inbox.extend("late", ids, until=NOON - timedelta(days=1)),
        lambda inbox, ids: inbox.put_back("late", ids),
        lambda inbox, ids: inbox.postpone("late", ids, "A lock.", now=NOON, due_at=NOON),
    ],
    ids=["extend", "put back", "postpone"],
)
def test_a_worker_whose_lease_ended_changes_no_delivery_that_another_one_has_claimed(kit, verb):
    sent = kit.send("shop", "product.updated", id="A1", at=NOON, data=named())
    for worker in ("late", "present"):
        kit.advance(seconds=61)
        kit.inbox.reclaim(now=kit.now(), dead=[], max_attempts=9)
        assert kit.inbox.claim(
            worker, ["shop"], limit=1, now=kit.now(), lease=timedelta(seconds=60), suspect=worker == "present"
        )
    verb(kit.inbox, [int(sent.delivery)])
    assert kit.inbox.workers() == ["present"]
    assert kit.inbox.reclaim(now=kit.now(), dead=[], max_attempts=9) == []


def test_a_lease_that_has_not_ended_is_respected(kit, gate, other):
    late = new_worker(kit)
    kit.send("shop", "product.updated", id="SLOW", data=named("Lamp"))
    with ThreadPoolExecutor() as pool:
        hanging = pool.submit(late.work)
        assert gate.reached.wait(TIMEOUT)
        kit.advance(seconds=50)
        taken = kit.inbox.reclaim(now=kit.now(), dead=[], max_attempts=10)
        assert (taken, states(kit)) == ([], ["processing"])
        gate.open()
        hanging.result(TIMEOUT)
    late.close()
    assert states(kit) == ["processed"]


def test_a_delivery_that_hangs_in_its_last_attempt_is_dead(kit, other):
    answer = kit.send("shop", "product.updated", id="A1", data=named())
    for number in range(1, 4):
        kit.inbox.claim(
            "host:1:hangs", ["shop"], limit=1, now=kit.now(), lease=timedelta(seconds=60), suspect=number > 1
        )
        kit.advance(seconds=61)
        kit.inbox.reclaim(now=kit.now(), dead=[], max_attempts=3)
    assert drain(other) == 0
    delivery = kit.delivery(answer)
    assert (delivery["state"], delivery["attempts_made"], len(delivery["attempts"])) == ("dead", 3, 3)


def test_a_delivery_that_dies_with_its_worker_is_counted_and_logged(kit):
    kit.send("shop", "product.updated", id="A1", at=NOON, data=named())
    reclaiming = Reclaiming(kit.inbox, lease=timedelta(seconds=60), max_attempts=2)
    before = counts()
    with capture_logs() as lines:
        for suspect in (False, True):
            kit.inbox.claim("w", ["shop"], limit=1, now=kit.now(), lease=timedelta(seconds=60), suspect=suspect)
            kit.advance(seconds=61)
            reclaiming.look(kit.now())
            kit.advance(seconds=15)
    assert states(kit) == ["dead"]
    [dead] = [line for line in lines if line["event"] == "a delivery is dead"]
    assert (dead["source"], dead["reason"]) == ("shop", "The worker stopped or hung during this attempt.")
    # The first attempt does not count: a delivery that was claimed among others is not certainly at fault.
    grown = {key: number - before.get(key, 0) for key, number in counts().items()}
    assert grown == {("ended", "dead"): 1, ("failed_attempt", ""): 1}


def counts() -> dict[tuple[str, str], int]:
    return {
        (key.kind, key.detail): count.number
        for key, count in take_snapshot().items()
        if key.source == "shop" and (key.kind, key.detail) in {("ended", "dead"), ("failed_attempt", "")}
    }


def test_a_suspect_that_hung_is_tried_again_after_the_others(kit, other):
    hangs = kit.send("shop", "product.updated", id="A1", data=named())
    lease = timedelta(seconds=60)
    for suspect in (False, True):
        assert kit.inbox.claim("host:1:hangs", ["shop"], limit=1, now=kit.now(), lease=lease, suspect=suspect)
        kit.advance(seconds=61)
        kit.inbox.reclaim(now=kit.now(), dead=[], max_attempts=10, pause=lease)
    late = kit.send("shop", "product.updated", id="A2", data=named())
    drain(other)
    assert (kit.delivery(hangs)["state"], kit.delivery(late)["state"]) == ("pending", "processed")
    kit.advance(seconds=61)
    drain(other)
    assert kit.delivery(hangs)["state"] == "processed"


def test_a_suspect_is_never_claimed_among_others(kit):
    claim = partial(kit.inbox.claim, "w", ["shop"], limit=10, lease=timedelta(seconds=60))
    kit.send("shop", "product.updated", id="A1", data=named())
    claim(now=kit.now(), suspect=False)
    kit.advance(seconds=61)
    kit.inbox.reclaim(now=kit.now(), dead=[], max_attempts=3)
    kit.send("shop", "product.updated", id="A2", data=named())
    claimed = [claim(now=kit.now(), suspect=suspect) for suspect in (False, True)]
    assert [[each.entity for each in some] for some in claimed] == [[("product", "A2")], [("product", "A1")]]


def test_a_stopped_worker_returns_unbegun_deliveries_without_an_attempt(kit, gate):
    stopping = new_worker(kit)
    kit.send("shop", "product.updated", id="SLOW", data=named())
    for number in range(5):
        kit.send("shop", "product.updated", id=f"A{number}", data=named())
    thread = threading.Thread(target=stopping.run)
    thread.start()
    assert gate.reached.wait(TIMEOUT)
    stopping.stop()
    gate.open()
    thread.join(TIMEOUT)
    assert states(kit) == ["processed"] + ["pending"] * 5
    assert [delivery["attempts_made"] for delivery in kit.deliveries()] == [1, 0, 0, 0, 0, 0]


def test_a_worker_that_is_replaced_after_new_settings_is_not_reported_as_ended(kit):
    told = []

    def make():
        # The second is made when the thread of the first has ended.
        told.append(thread.trouble() if told else None)
        return new_worker(kit)

    thread = WorkerThread(make, kit.database)
    thread.start()
    try:
        thread.renew()
        wait_until(lambda: len(told) == 2, "the next worker")
    finally:
        thread.stop()
    assert told == [None, None]


def test_a_delivery_that_kills_its_process_ends_as_dead_while_its_neighbours_are_processed(tmp_path, kit):
    for number in range(3):
        kit.send("shop", "product.updated", id=f"A{number}", data=named())
    poison = kit.send("shop", "product.updated", id="POISON", data=named())
    for number in range(3, 6):
        kit.send("shop", "product.updated", id=f"A{number}", data=named())
    deaths = 0
    working = start_worker(tmp_path, url_of(kit), max_attempts=2)
    try:

        def all_ended() -> bool:
            nonlocal deaths, working
            if working.poll() is not None:
                assert working.returncode == 66, working.communicate()
                deaths += 1
                working.communicate()
                working = start_worker(tmp_path, url_of(kit), max_attempts=2)
            return not {"pending", "processing"} & set(states(kit))

        wait_until(all_ended, "the end of the poison")
    finally:
        working.terminate()
        working.communicate(TIMEOUT)
    assert (deaths, working.returncode) == (2, 0)
    assert states(kit) == ["processed"] * 3 + ["dead"] + ["processed"] * 3
    delivery = kit.delivery(poison)
    assert [each["reason"] for each in delivery["attempts"]] == ["The worker stopped or hung during this attempt."] * 2
    assert [row.external_id for row in kit.rows(Product)] == [f"A{number}" for number in range(6)]
