"""Another session of PostgreSQL holds what a delivery needs: only such deliveries wait, in the inbox, at no cost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import httpx
import pytest
from held_locks import held
from serving import wait_until
from shopping import NOON, drain, named, new_worker, running, states
from sqlalchemy import text
from structlog.testing import capture_logs

from handlers.catalog import Category, Product
from receiver import Event, Mirror
from receiver.findings.gathering import Facts, examine
from receiver.inbox.locked import LONGEST_LOCKED_PAUSE, read_locked_reason
from receiver.inbox.retries import RetrySchedule
from receiver.worker import locks
from receiver.worker.locks import MET_LOCK
from receiver.worker.worker import Worker

pytestmark = [
    pytest.mark.parametrize("database_system", ["postgresql"], indirect=True),
    pytest.mark.usefixtures("short_lock_waits"),
]

#: Longer than any pause.
LATER = LONGEST_LOCKED_PAUSE + timedelta(seconds=1)

A_ROW = "SELECT 1 FROM products WHERE external_id = 'A1' FOR UPDATE"


def send(kit, *ids: str, name: str = "Lamp", minutes: int = 0) -> list[str]:
    """Send an update of each product, each a second later."""
    times = [NOON + timedelta(minutes=minutes, seconds=number) for number in range(len(ids))]
    return [
        kit.send("shop", "product.updated", id=each, at=at, data=named(name)).delivery
        for each, at in zip(ids, times, strict=True)
    ]


def attempts_of(kit, delivery: str) -> int:
    with kit.database.read() as connection:
        found = connection.execute(text("SELECT attempts FROM deliveries WHERE id = :id"), {"id": int(delivery)})
        return found.scalar_one()


def due_of(kit, deliveries: list[str]) -> list[Any]:
    with kit.database.read() as connection:
        found = text("SELECT due_at FROM deliveries WHERE id = ANY(:ids)")
        return list(connection.execute(found, {"ids": [int(each) for each in deliveries]}).scalars())


def name_of(kit, external_id: str) -> str:
    return kit.row(Product, external_id).name


def rows_of(kit) -> None:
    """Make the rows of A1 and B1."""
    send(kit, "A1", "B1", name="Old")
    kit.drain()


def settled(kit) -> list[str]:
    """The deliveries in the order in which they changed a row."""
    with kit.database.read() as connection:
        return list(connection.execute(text("SELECT delivery_id::text FROM changes ORDER BY seq")).scalars())


def test_only_the_delivery_whose_row_is_held_waits_and_says_for_what(kit, worker, psql):
    rows_of(kit)
    first, _ = send(kit, "A1", "B1", name="New", minutes=1)
    with held(psql, A_ROW), capture_logs() as lines:
        drain(worker)
        assert states(kit)[2:] == ["pending", "processed"]
        assert (name_of(kit, "A1"), name_of(kit, "B1")) == ("Old", "New")
        reason = kit.delivery(first)["reason"]
        assert reason.startswith("Another session of the database holds a row of `products`.")
        assert "pg_stat_activity" in reason
    assert any(line["event"] == MET_LOCK and line["table"] == "products" for line in lines)
    kit.advance(seconds=LATER.total_seconds())
    drain(worker)
    assert name_of(kit, "A1") == "New"
    assert kit.delivery(first)["reason"] is None


def test_deliveries_that_have_waited_for_a_lock_for_a_minute_are_a_finding(kit, worker, psql):
    rows_of(kit)
    first, second = send(kit, "A1", "B1", name="New", minutes=1)
    # They arrived long before.
    kit.advance(hours=1)
    facts = Facts({"shop": kit.source("shop")}, 1 << 20, 1e9, running=lambda *_: ())
    with held(psql, "SELECT 1 FROM products FOR UPDATE"):
        drain(worker)
        _, since = read_locked_reason(kit.delivery(first)["reason"])
        assert examine(kit.database, facts, now=kit.now()) == []
        for _ in range(6):
            kit.advance(seconds=LATER.total_seconds())
            drain(worker)
        (found,) = examine(kit.database, facts, now=kit.now())
    assert (found.rule, found.evidence["waiting"], found.evidence["delivery"]) == ("row_held", 2, first)
    assert found.since == since
    kit.advance(seconds=LATER.total_seconds())
    drain(worker)
    assert kit.delivery(second)["state"] == "processed"
    assert examine(kit.database, facts, now=kit.now()) == []


def test_waiting_for_a_lock_costs_no_attempt_however_long_it_lasts(kit, psql):
    rows_of(kit)
    worker = new_worker(kit, retries=RetrySchedule(attempts=1))
    first, *_ = send(kit, "A1", name="New", minutes=1)
    with held(psql, A_ROW):
        for _ in range(5):
            drain(worker)
            kit.advance(seconds=LATER.total_seconds())
    drain(worker)
    assert (kit.delivery(first)["state"], attempts_of(kit, first)) == ("processed", 1)
    assert [each["failed"] for each in kit.delivery(first)["rounds"][-1]["attempts"]] == [False]


def test_later_events_of_an_entity_in_the_batch_wait_as_long_and_keep_their_order(kit, worker, psql):
    rows_of(kit)
    sent = send(kit, "A1", "A1", name="New", minutes=1)
    with held(psql, A_ROW):
        drain(worker)
        assert states(kit)[2:] == ["pending"] * 2
        assert len(set(due_of(kit, sent))) == 1
    kit.advance(seconds=LATER.total_seconds())
    drain(worker)
    assert states(kit)[2:] == ["processed"] * 2
    assert [kit.delivery(each)["outcome"] for each in sent] == ["applied", "unchanged"]


def test_a_later_event_of_the_entity_waits_although_the_lock_ends_before_its_turn(kit, worker, psql, monkeypatch):
    """Each body is settled by itself, as large ones are."""
    monkeypatch.setattr("receiver.worker.reading.PORTION_BYTES", 1)
    rows_of(kit)
    sent = send(kit, "A1", "A1", name="New", minutes=1)
    with psql.engine.connect() as holding:
        holding.execute(text(A_ROW))
        postpone = kit.inbox.postpone

        def free(*given: Any, **named: Any) -> None:
            holding.rollback()
            postpone(*given, **named)

        monkeypatch.setattr(kit.inbox, "postpone", free)
        drain(worker)
    assert states(kit)[2:] == ["pending"] * 2
    assert len(set(due_of(kit, sent))) == 1


def test_a_new_worker_leaves_deliveries_that_wait_for_a_lock_their_pause(kit, worker, psql):
    rows_of(kit)
    sent = send(kit, "A1", name="New", minutes=1)
    with held(psql, A_ROW):
        drain(worker)
        before = due_of(kit, sent)
        with capture_logs() as lines:
            drain(new_worker(kit))
    assert (due_of(kit, sent), lines) == (before, [])


def test_deliveries_that_could_not_be_returned_are_returned_once_their_table_is_free(kit, psql):
    sent = send(kit, "A1", "B1")
    worker = new_worker(kit)
    hold = partial(held, psql, "LOCK TABLE deliveries IN SHARE MODE")
    with running(worker):
        with worker_that_claimed(worker, hold):
            wait_until(lambda: worker._leases.owes, "the worker to give up the return")
        wait_until(lambda: set(states(kit)) == {"processed"}, "all are processed")
    assert [attempts_of(kit, each) for each in sent] == [1, 1]


def test_an_error_about_a_lock_of_another_database_is_a_failure_of_the_handler(kit, psql):
    @kit.source("shop").dialect.on("product.looked")
    def look(event: Event[Any], mirror: Mirror) -> None:
        with psql.engine.connect() as other:
            other.execute(text("SELECT 1 FROM products FOR UPDATE NOWAIT"))

    rows_of(kit)
    worker = new_worker(kit, retries=RetrySchedule(attempts=1))
    looked = kit.send("shop", "product.looked", id="A1", at=NOON).delivery
    with kit.database.write() as connection:
        connection.execute(text("SELECT 1 FROM products FOR UPDATE"))
        drain(worker)
    assert kit.delivery(looked)["state"] == "dead"


def test_a_later_event_that_is_claimed_while_an_earlier_one_waits_makes_it_stale(kit, worker, psql):
    """As for an event that waits for another attempt after a failure."""
    rows_of(kit)
    sent = send(kit, "A1", name="New", minutes=1)
    with held(psql, A_ROW):
        drain(worker)
    sent += send(kit, "A1", name="Newest", minutes=2)
    drain(worker)
    kit.advance(seconds=LATER.total_seconds())
    drain(worker)
    assert [kit.delivery(each)["outcome"] for each in sent] == ["stale", "applied"]
    assert name_of(kit, "A1") == "Newest"


def test_a_delivery_whose_entity_is_not_recorded_waits_with_those_behind_it(kit, worker, psql):
    """As one whose body could not be read when it arrived."""
    rows_of(kit)
    sent = send(kit, "A1", "A1", name="New", minutes=1)
    with kit.database.write() as connection:
        connection.execute(text("UPDATE deliveries SET entity_kind = NULL, entity_id = NULL WHERE state = 'pending'"))
    with held(psql, A_ROW):
        for _ in range(3):
            drain(worker)
            assert states(kit)[2:] == ["pending"] * 2
            kit.advance(seconds=LATER.total_seconds())
    drain(worker)
    assert states(kit)[2:] == ["processed"] * 2
    assert [attempts_of(kit, each) for each in sent] == [1, 1]


def test_a_thin_event_that_meets_a_lock_is_fetched_again_afterwards(kit, psql):
    rows_of(kit)
    fetched = []
    shop = kit.source("shop").dialect

    @shop.hydrate("product.thin")
    def fetch(event: Event[Any], api: Any) -> Any:
        fetched.append(event.entity_id)
        return named(f"Fetched {len(fetched)}")

    @shop.on("product.thin")
    def thin(event: Event[Any], mirror: Mirror) -> None:
        mirror.upsert(Product, event.entity_id, name=event.hydrated["name"])

    shop.connect(lambda _: httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200))))
    source = kit.source("shop", api_url="http://api.test", secrets=["TestSecretOf32CharactersForTests"])
    worker = new_worker(kit, sources={"shop": source})
    kit.send("shop", "product.thin", id="A1", at=NOON + timedelta(minutes=2))
    with held(psql, A_ROW):
        drain(worker)
        assert states(kit)[2:] == ["pending"]
    kit.advance(seconds=LATER.total_seconds())
    drain(worker)
    assert states(kit)[2:] == ["processed"]
    assert name_of(kit, "A1") == "Fetched 2"


def test_a_delivery_whose_own_row_is_held_is_reclaimed_after_its_lease_and_the_others_are_applied(kit, worker, psql):
    first, _ = send(kit, "A1", "B1")
    hold = partial(held, psql, f"SELECT 1 FROM deliveries WHERE id = {first} FOR UPDATE")
    with worker_that_claimed(worker, hold):
        drain(worker)
        assert states(kit) == ["processing", "processed"]
    drain(worker)
    assert states(kit) == ["processing", "processed"]
    kit.advance(seconds=worker.lease.total_seconds() + 1)
    assert [each.delivery_id for each in kit.inbox.reclaim(now=kit.now(), dead=[], max_attempts=9)] == [int(first)]
    drain(worker)
    assert states(kit) == ["processed"] * 2
    assert len(settled(kit)) == 2


@contextmanager
def worker_that_claimed(worker: Worker, hold) -> Iterator[None]:
    """Take the locks of `hold` once the worker has claimed, and release them at the end of the block."""
    claim, holding = worker._claim, []

    def claim_then_hold():
        claimed = claim()
        if claimed and not holding:
            holding.append(hold())
            holding[0].__enter__()
        return claimed

    worker._claim = claim_then_hold
    yield
    holding[0].__exit__(None, None, None)


def test_sql_of_a_handler_that_meets_a_lock_costs_no_attempt(kit, psql):
    with kit.database.write() as connection:
        connection.execute(text("CREATE TABLE shelves (id integer PRIMARY KEY, items integer)"))
        connection.execute(text("INSERT INTO shelves VALUES (1, 0)"))

    @kit.source("shop").dialect.on("product.shelved")
    def shelve(event: Event[Any], mirror: Mirror) -> None:
        mirror.session.execute(text("UPDATE shelves SET items = items + 1"))

    worker = new_worker(kit, retries=RetrySchedule(attempts=1))
    shelved = kit.send("shop", "product.shelved", id="S1", at=NOON).delivery
    send(kit, "A1")
    with held(psql, "SELECT 1 FROM shelves FOR UPDATE"):
        drain(worker)
        assert states(kit) == ["pending", "processed"]
        assert "a row of `shelves`" in kit.delivery(shelved)["reason"]
    kit.advance(seconds=LATER.total_seconds())
    drain(worker)
    assert states(kit) == ["processed"] * 2
    with kit.database.read() as connection:
        assert connection.execute(text("SELECT items FROM shelves")).scalar() == 1


@pytest.fixture
def other(kit):
    """Another source, of the same dialect, with events that need no row of the mirror."""
    source = kit.source("other", dialect="shop")

    @source.dialect.on("category.seen")
    def seen(event: Event[Any], mirror: Mirror) -> None:
        pass

    return source


def test_while_a_table_is_locked_its_deliveries_wait_in_order_and_others_are_applied(kit, other, psql):
    worker = new_worker(kit, sources={"shop": kit.source("shop"), "other": other})
    sent = send(kit, *(f"P{number}" for number in range(5)))
    kit.send("other", "category.seen", id="C1", at=NOON)
    with held(psql, "LOCK TABLE products"):
        drain(worker)
        assert states(kit) == ["pending"] * 5 + ["processed"]
    kit.advance(seconds=LATER.total_seconds())
    drain(worker)
    assert set(states(kit)) == {"processed"}
    assert settled(kit) == sent


def test_a_source_with_many_locked_deliveries_rests_for_a_moment_and_others_go_on(kit, other, psql, monkeypatch):
    monkeypatch.setattr(locks, "LIKELY_ALL", 1)
    # Longer than the test takes on any machine.
    monkeypatch.setattr(locks, "SOURCE_REST", timedelta(minutes=5))
    rows_of(kit)
    worker = new_worker(kit, sources={"shop": kit.source("shop"), "other": other})
    send(kit, "A1", name="New", minutes=1)
    with held(psql, A_ROW):
        drain(worker)
        send(kit, "B1", name="New", minutes=1)
        kit.send("other", "category.seen", id="C1", at=NOON)
        drain(worker)
        assert states(kit)[2:] == ["pending", "pending", "processed"]
        kit.advance(minutes=5)
        drain(worker)
        assert states(kit)[2:] == ["pending", "processed", "processed"]


def test_a_free_delivery_is_applied_although_locked_ones_that_are_due_again_fill_its_batch(kit, psql):
    """They have arrived before it, so they are settled first."""
    ids = [f"P{number}" for number in range(4)]
    send(kit, *ids, "B1", name="Old")
    kit.drain()
    worker = new_worker(kit, batch_size=3)
    send(kit, *ids, name="New", minutes=1)
    with held(psql, "SELECT 1 FROM products WHERE external_id LIKE 'P%' FOR UPDATE"):
        drain(worker)
        send(kit, "B1", name="New", minutes=1)
        kit.advance(seconds=LATER.total_seconds())
        drain(worker)
        assert states(kit)[5:] == ["pending"] * 4 + ["processed"]


def test_a_free_delivery_behind_more_locked_ones_than_a_batch_is_applied(kit, psql):
    ids = [f"P{number}" for number in range(5)]
    send(kit, *ids, "B1", name="Old")
    kit.drain()
    worker = new_worker(kit, batch_size=2)
    send(kit, *ids, "B1", name="New", minutes=1)
    with held(psql, "SELECT 1 FROM products WHERE external_id LIKE 'P%' FOR UPDATE"):
        drain(worker)
        assert states(kit)[6:] == ["pending"] * 5 + ["processed"]


def test_a_worker_that_stops_leaves_what_waits_for_a_lock_to_the_next_one(kit, psql):
    rows_of(kit)
    first, _ = sent = send(kit, "A1", "A1", name="New", minutes=1)
    with held(psql, A_ROW):
        with running(new_worker(kit)):
            wait_until(lambda: kit.delivery(first)["reason"] is not None, "the worker to meet the lock")
        assert states(kit)[2:] == ["pending"] * 2
        assert [attempts_of(kit, each) for each in sent] == [0, 0]
    kit.advance(seconds=LATER.total_seconds())
    drain(new_worker(kit))
    assert states(kit)[2:] == ["processed"] * 2


def test_a_suspect_that_meets_a_lock_waits_as_an_ordinary_delivery(kit, worker, psql):
    rows_of(kit)
    send(kit, "A1", name="New", minutes=1)
    with kit.database.write() as connection:
        connection.execute(text("UPDATE deliveries SET suspect = true WHERE state = 'pending'"))
    with held(psql, A_ROW):
        drain(worker)
    with kit.database.read() as connection:
        waiting = connection.execute(text("SELECT suspect, attempts FROM deliveries WHERE state = 'pending'"))
        assert waiting.all() == [(False, 0)]


def test_a_handler_whose_read_meets_a_lock_costs_no_attempt_and_leaves_the_others_alone(kit, psql):
    @kit.source("shop").dialect.on("product.looked")
    def look(event: Event[Any], mirror: Mirror) -> None:
        mirror.get(Product, event.entity_id)

    @kit.source("shop").dialect.on("product.seen")
    def seen(event: Event[Any], mirror: Mirror) -> None:
        mirror.get(Category, event.entity_id)

    worker = new_worker(kit, retries=RetrySchedule(attempts=1))
    looked = [kit.send("shop", "product.looked", id=each, at=NOON).delivery for each in ("A1", "B1")]
    kit.send("shop", "product.seen", id="C1", at=NOON)
    with held(psql, "LOCK TABLE products"), capture_logs() as lines:
        drain(worker)
        assert states(kit) == ["pending", "pending", "processed"]
        assert kit.delivery(looked[0])["reason"].startswith("Another session of the database holds")
    assert [line for line in lines if line["event"] == "a handler failed"] == []
    kit.advance(seconds=LATER.total_seconds())
    drain(worker)
    assert states(kit) == ["processed"] * 3
    assert [attempts_of(kit, each) for each in looked] == [1, 1]


@pytest.mark.parametrize(
    "verb",
    [
        lambda inbox, ids: inbox.extend("one", ids, until=NOON),
        lambda inbox, ids: inbox.put_back("one", ids),
        lambda inbox, ids: inbox.postpone("one", ids, "A lock.", now=NOON, due_at=NOON),
        lambda inbox, _: inbox.release("one"),
    ],
    ids=["extend", "put back", "postpone", "release"],
)
def test_a_worker_passes_over_its_deliveries_that_another_session_holds(kit, psql, verb):
    first, second = send(kit, "A1", "B1")
    kit.inbox.claim("one", ["shop"], limit=9, now=kit.now(), lease=timedelta(seconds=60))
    before = kit.delivery(first)
    with held(psql, f"SELECT 1 FROM deliveries WHERE id = {first} FOR UPDATE"):
        verb(kit.inbox, [int(first), int(second)])
    assert kit.delivery(first) == before
    with kit.database.read() as connection:
        changed = text("SELECT id FROM deliveries WHERE state = 'pending' OR lease_until < '2026-03-05'")
        assert list(connection.execute(changed).scalars()) == [int(second)]


def test_a_lost_delivery_that_another_session_holds_keeps_no_other_from_being_given_back(kit, psql):
    first, second = send(kit, "A1", "B1")
    kit.inbox.claim("vanished", ["shop"], limit=9, now=kit.now(), lease=timedelta(seconds=60))
    kit.advance(seconds=61)
    with held(psql, f"SELECT 1 FROM deliveries WHERE id = {first} FOR UPDATE"):
        [lost] = kit.inbox.reclaim(now=kit.now(), dead=[], max_attempts=9)
    assert str(lost.delivery_id) == second
    assert states(kit) == ["processing", "pending"]
