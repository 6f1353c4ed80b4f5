"""Another session of PostgreSQL holds what a settlement needs: only those deliveries wait, in order, at no cost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import httpx
import pytest
from serving import wait_until
from shopping import NOON, drain, inbox_of_another_process, named, new_worker, running, states, url_of
from sqlalchemy import Connection, text
from structlog.testing import capture_logs

from handlers.catalog import Product
from receiver import Event, Mirror
from receiver.database import postgresql
from receiver.database.database import Database
from receiver.findings.gathering import Facts, examine
from receiver.inbox.retries import RetrySchedule
from receiver.worker import locked
from receiver.worker.worker import Worker

pytestmark = pytest.mark.parametrize("database_system", ["postgresql"], indirect=True)

#: Longer than any pause of a locked attempt.
LATER = locked.LONGEST_LOCKED_PAUSE + timedelta(seconds=1)

A_ROW = "SELECT 1 FROM products WHERE external_id = 'A1' FOR UPDATE"


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch) -> None:
    monkeypatch.setitem(postgresql.SESSION, "lock_timeout", "50ms")


@pytest.fixture
def kit(_short_waits, kit):
    """Open new connections, which wait for locks briefly."""
    kit.database.engine.dispose()
    return kit


@pytest.fixture
def psql(kit) -> Iterator[Database]:
    """Connect as another program does."""
    with closing(Database(url_of(kit))) as other:
        yield other


@contextmanager
def held(psql: Database, statement: str) -> Iterator[Connection]:
    """Hold what this statement locks during the block."""
    with psql.engine.connect() as connection:
        connection.execute(text(statement))
        yield connection


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
        assert states(kit)[2:] == ["processing", "processed"]
        assert (name_of(kit, "A1"), name_of(kit, "B1")) == ("Old", "New")
        reason = kit.delivery(first)["reason"]
        assert reason.startswith("Another session of the database holds a row of `products`.")
        assert "pg_stat_activity" in reason
    assert any(line["event"] == locked._LOCKED and line["table"] == "products" for line in lines)
    kit.advance(seconds=LATER.total_seconds())
    drain(worker)
    assert name_of(kit, "A1") == "New"
    assert kit.delivery(first)["reason"] is None


def test_deliveries_that_wait_for_a_lock_are_a_finding(kit, worker, psql):
    rows_of(kit)
    first, *_ = send(kit, "A1", "B1", name="New", minutes=1)
    facts = Facts({"shop": kit.source("shop")}, 1 << 20, 300.0, running=lambda *_: ())
    with held(psql, "SELECT 1 FROM products FOR UPDATE"):
        drain(worker)
        assert [each.rule for each in examine(kit.database, facts, now=kit.now())] == []
        found = examine(kit.database, facts, now=kit.now() + timedelta(minutes=2))
    assert [(each.rule, each.evidence["waiting"], each.evidence["delivery"]) for each in found] == [
        ("row_held", 2, first)
    ]


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


def test_later_events_of_an_entity_wait_for_the_locked_one(kit, worker, psql):
    rows_of(kit)
    sent = send(kit, "A1", "A1", name="New", minutes=1)
    with held(psql, A_ROW):
        drain(worker)
        assert states(kit)[2:] == ["processing", "pending"]
    # The row is free again, and another worker looks before the first one tries again.
    sent += send(kit, "A1", name="Newest", minutes=2)
    with closing(inbox_of_another_process(kit).database) as beside:
        other = new_worker(kit, inbox=type(kit.inbox)(beside))
        assert drain(other) == 0
        kit.advance(seconds=LATER.total_seconds())
        drain(worker)
        drain(other)
    assert states(kit)[2:] == ["processed"] * 3
    assert [each for each in settled(kit) if each in sent] == [sent[0], sent[2]]


def test_a_thin_event_behind_a_locked_one_of_its_batch_waits_too(kit, psql):
    """Its entity's first event needs no call, and is settled before the call is made."""
    rows_of(kit)
    shop = kit.source("shop").dialect

    @shop.hydrate("product.thin")
    def fetch(event: Event[Any], api: Any) -> Any:
        return named("Fetched")

    @shop.on("product.thin")
    def thin(event: Event[Any], mirror: Mirror) -> None:
        mirror.upsert(Product, event.entity_id, name=event.hydrated["name"])

    shop.connect(lambda _: httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200))))
    source = kit.source("shop", api_url="http://api.test", secrets=["TestSecretOf32CharactersForTests"])
    worker = new_worker(kit, sources={"shop": source})
    send(kit, "A1", name="New", minutes=1)
    kit.send("shop", "product.thin", id="A1", at=NOON + timedelta(minutes=2))
    with held(psql, A_ROW):
        drain(worker)
        assert states(kit)[2:] == ["processing", "pending"]
    kit.advance(seconds=LATER.total_seconds())
    drain(worker)
    assert states(kit)[2:] == ["processed"] * 2
    assert name_of(kit, "A1") == "Fetched"


def test_a_delivery_that_another_session_holds_waits_alone(kit, worker, psql):
    first, _ = send(kit, "A1", "B1")
    hold = partial(held, psql, f"SELECT 1 FROM deliveries WHERE id = {first} FOR UPDATE")
    with worker_that_claimed(worker, hold):
        drain(worker)
        assert states(kit) == ["processing", "processed"]
    kit.advance(seconds=LATER.total_seconds())
    drain(worker)
    assert states(kit) == ["processed"] * 2
    assert sorted(settled(kit)) == sorted(set(settled(kit)))


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
        assert states(kit) == ["processing", "processed"]
        assert "a row of `shelves`" in kit.delivery(shelved)["reason"]
    kit.advance(seconds=LATER.total_seconds())
    drain(worker)
    assert states(kit) == ["processed"] * 2
    with kit.database.read() as connection:
        assert connection.execute(text("SELECT items FROM shelves")).scalar() == 1


def test_while_a_table_is_locked_its_deliveries_stay_in_order_and_others_are_applied(kit, worker, psql, monkeypatch):
    monkeypatch.setattr(locked, "MOST_LOCKED", 2)
    other = kit.source("other", dialect="shop")
    worker = new_worker(kit, sources={"shop": kit.source("shop"), "other": other})
    sent = send(kit, *(f"P{number}" for number in range(5)))

    @other.dialect.on("category.seen")
    def seen(event: Event[Any], mirror: Mirror) -> None:
        pass

    with held(psql, "LOCK TABLE products"):
        drain(worker)
        assert states(kit) == ["processing"] * 2 + ["pending"] * 3
        kit.send("other", "category.seen", id="C1", at=NOON)
        drain(worker)
        assert states(kit)[-1] == "processed"
    kit.advance(seconds=LATER.total_seconds())
    drain(worker)
    assert set(states(kit)) == {"processed"}
    assert settled(kit) == sent


def test_a_worker_that_stops_returns_what_waits_for_a_lock_as_if_it_had_not_been_claimed(kit, psql):
    rows_of(kit)
    worker = new_worker(kit)
    first, _ = send(kit, "A1", "A1", name="New", minutes=1)
    with held(psql, A_ROW):
        with running(worker):
            wait_until(lambda: kit.delivery(first)["reason"] is not None, "the worker to meet the lock")
        assert states(kit)[2:] == ["pending"] * 2
        assert attempts_of(kit, first) == 0


def test_the_lease_of_a_locked_delivery_is_extended(kit, worker, psql):
    rows_of(kit)
    first, *_ = send(kit, "A1", name="New", minutes=1)
    with held(psql, A_ROW):
        for _ in range(4):
            drain(worker)
            kit.advance(seconds=worker.lease.total_seconds() / 2)
        assert kit.inbox.reclaim(now=kit.now(), dead=[], max_attempts=9) == []
    drain(worker)
    assert kit.delivery(first)["state"] == "processed"


def test_a_backlog_behind_a_locked_delivery_does_not_count_as_late(kit, worker, psql):
    rows_of(kit)
    send(kit, "A1", "A1", minutes=1, name="New")
    with held(psql, A_ROW):
        drain(worker)
        kit.advance(seconds=10)
        assert kit.inbox.oldest_due_seconds(["shop"], now=kit.now()) == 0.0
        # Once its worker's lease has ended, they do.
        kit.advance(hours=1)
        assert kit.inbox.oldest_due_seconds(["shop"], now=kit.now()) > 3_600.0


def test_a_follower_whose_own_row_is_held_returns_to_the_inbox_once_that_is_free(kit, worker, psql):
    rows_of(kit)
    _, second = send(kit, "A1", "A1", name="New", minutes=1)
    hold = partial(held, psql, f"SELECT 1 FROM deliveries WHERE id = {second} FOR UPDATE")
    with worker_that_claimed(worker, hold), held(psql, A_ROW):
        drain(worker)
        assert states(kit)[2:] == ["processing"] * 2
    # Long after the lease that its claim granted.
    for _ in range(4):
        kit.advance(seconds=worker.lease.total_seconds() / 2)
        drain(worker)
    assert states(kit)[2:] == ["processed"] * 2
    assert attempts_of(kit, second) == 1


@pytest.mark.parametrize(
    "verb",
    [
        lambda inbox, ids: inbox.extend("one", ids, until=NOON),
        lambda inbox, ids: inbox.put_back("one", ids),
        lambda inbox, _: inbox.release("one"),
    ],
    ids=["extend", "put back", "release"],
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
