"""A session that somebody left open holds locks on PostgreSQL: only the work on its rows waits for it."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from threading import Event, Thread

import httpx
import pytest
from held_locks import held
from running import Runs, asked
from serving import TIMEOUT, wait_until
from shopping import NOON, drain, named, new_worker, running, states
from sqlalchemy import insert, select
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs
from targets import receiving

from handlers.catalog import Product
from receiver import Listed
from receiver.api.reads import Reads
from receiver.database import postgresql
from receiver.database.errors import is_lock_timeout, is_overdue
from receiver.errors import Unavailable
from receiver.following.following import Following
from receiver.following.lease import FollowOptions
from receiver.following.target import Target
from receiver.inbox.inbox import Inbox
from receiver.inbox.retention import Retention
from receiver.inbox.tables import BODIES, DELIVERIES
from receiver.reconcile.seen import drop
from receiver.reconcile.tables import SEEN
from receiver.runs.feeder import Feeder
from receiver.runs.immediate_actions import replay_now
from receiver.runs.reconcile import Reconcile
from receiver.runs.runs import be_alone

pytestmark = [
    pytest.mark.parametrize("database_system", ["postgresql"], indirect=True),
    pytest.mark.usefixtures("short_lock_waits"),
]

KEPT = Retention(bodies=timedelta(days=30), dedup_keys=timedelta(days=400))


def in_time(work):
    """Return the result of the work, which must not hang."""
    pool = ThreadPoolExecutor()
    try:
        return pool.submit(work).result(TIMEOUT)
    finally:
        # It may wait for a lock that the test holds.
        pool.shutdown(wait=False)


def send(kit, *ids: str) -> list[int]:
    return [int(kit.send("shop", "product.updated", id=each, at=NOON, data=named()).delivery) for each in ids]


def prune(kit) -> int:
    return in_time(lambda: sum(iter(lambda: KEPT.prune(kit.database, now=kit.now()), 0)))


def kept(kit, column) -> list[int]:
    with kit.database.read() as connection:
        return list(connection.execute(select(column).order_by(column)).scalars())


# ── retention ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_locked_delivery_keeps_its_body_until_it_is_free_and_the_others_lose_theirs(kit, worker, psql):
    _, second, _ = send(kit, "A1", "A2", "A3")
    drain(worker)
    kit.advance(days=31)
    with held(psql, f"UPDATE deliveries SET reason = reason WHERE id = {second}"):
        assert prune(kit) == 2
        assert kept(kit, BODIES.c.delivery_id) == [second]
    assert prune(kit) == 1
    assert kept(kit, BODIES.c.delivery_id) == []


def test_a_locked_delivery_is_dropped_once_it_is_free_and_the_others_before(kit, worker, psql):
    _, second, _ = send(kit, "A1", "A2", "A3")
    drain(worker)
    kit.advance(days=31)
    prune(kit)
    kit.advance(days=370)
    with held(psql, f"SELECT 1 FROM deliveries WHERE id = {second} FOR UPDATE"):
        assert prune(kit) == 2
        assert kept(kit, DELIVERIES.c.id) == [second]
    assert prune(kit) == 1
    assert kept(kit, DELIVERIES.c.id) == []


@pytest.mark.parametrize("days", [31, 401])
def test_a_prune_that_meets_another_locked_row_ends_with_the_reason(kit, worker, psql, days):
    send(kit, "A1")
    drain(worker)
    kit.advance(days=days)
    with held(psql, "SELECT 1 FROM bodies FOR UPDATE"), pytest.raises(DBAPIError) as raised:
        prune(kit)
    assert is_overdue(raised.value)
    assert prune(kit) >= 1


def test_a_worker_goes_on_while_somebody_holds_an_expired_delivery(kit, worker, psql):
    send(kit, "OLD")
    drain(worker)
    kit.advance(days=31)
    pruned = Event()
    retention = replace(KEPT, others=(lambda *_: pruned.set() or 0,))
    with held(psql, "UPDATE deliveries SET reason = reason"), running(new_worker(kit, retention=retention)):
        assert pruned.wait(TIMEOUT)
        send(kit, *(f"N{number}" for number in range(5)))
        wait_until(lambda: states(kit) == ["processed"] * 6, "the new deliveries")


# ── runs ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_replay_that_waits_for_a_locked_delivery_does_not_hold_up_the_starts_of_other_runs(kit, psql):
    ids = send(kit, "A1", "A2")
    kit.drain()
    runs = Runs(kit)
    run = runs.plan(*ids)
    runs.start(run)
    with held(psql, f"SELECT 1 FROM deliveries WHERE id = {ids[0]} FOR UPDATE"):
        in_time(lambda: runs.feeder._step(run))
        assert "Another session of the database holds a row of `deliveries`." in runs.run(run)["trouble"]
        with kit.database.write() as connection:
            be_alone(connection)
    runs.finish(run)
    assert runs.run(run)["tally"] == {"unchanged": 2}


def test_a_run_whose_own_row_is_held_holds_up_no_other(kit, psql):
    ids = send(kit, "A1", "A2")
    kit.drain()
    runs = Runs(kit)
    held_run, other = runs.begin_plan(ids[0]), runs.begin_plan(ids[1])
    with held(psql, f"SELECT 1 FROM runs WHERE id = {held_run} FOR UPDATE"):
        for _ in range(3):
            in_time(runs.feeder.step_all)
        assert (runs.run(held_run)["state"], runs.run(other)["state"]) == ("planning", "planned")
    while runs.feeder.step(held_run):
        pass
    assert runs.run(held_run)["state"] == "planned"


def test_a_reconcile_whose_row_is_held_says_so_and_goes_on_once_it_is_free(kit, psql):
    send(kit, "A1")
    kit.drain()
    dialect = kit.source("shop").dialect
    dialect.connect(lambda _: httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200))))
    dialect.listing(Product)(lambda _: iter([Listed(Product, "A1", {"name": "Lantern"}, True)]))
    shop = kit.source("shop", api_url="http://api.test", secrets=["TestSecretOf32CharactersForTests"])
    runs = Runs(kit)
    kinds = [Reconcile(kit.inbox, {"shop": shop}, kit.now)]
    with closing(Feeder(kit.database, kinds, clock=kit.now)) as runs.feeder:
        kit.advance(minutes=1)
        request = asked("plan reconcile", source="shop", force=False)
        run = int(runs.verbs.plan(request, "reconcile", sources=["shop"], now=kit.now()).result["run"])
        for _ in runs.feeder.steps(run):
            pass
        runs.start(run)
        with held(psql, "SELECT 1 FROM products FOR UPDATE"):
            in_time(lambda: [runs.feeder._step(run) for _ in range(5)])
            assert "Another session of the database holds a row of `products`." in runs.run(run)["trouble"]
        for _ in runs.feeder.steps(run):
            pass
        assert runs.run(run)["state"] == "done"
    assert kit.row(Product, "A1").name == "Lantern"


def test_keys_that_another_session_holds_are_dropped_once_they_are_free(kit, psql):
    key = {"run": "1", "table": "products", "external_id": "A1", "walk": 1}
    with kit.database.write() as connection:
        connection.execute(insert(SEEN), [key])
    with held(psql, "SELECT 1 FROM seen FOR UPDATE"), pytest.raises(DBAPIError) as raised:
        in_time(lambda: drop(kit.database, "1"))
    assert is_lock_timeout(raised.value)
    drop(kit.database, "1")
    assert kept(kit, SEEN.c.external_id) == []


def test_a_request_that_waits_for_a_held_delivery_is_refused_with_the_reason(kit, psql, monkeypatch):
    monkeypatch.setattr(postgresql, "LOCK_SECONDS", 0.05)
    delivery, *_ = send(kit, "A1")
    kit.drain()
    inbox = Inbox(kit.database.beside(connections=1, seconds=TIMEOUT))

    async def replay() -> None:
        reads = Reads(at_once=1, seconds=TIMEOUT)
        try:
            await reads.run(lambda: replay_now(inbox, asked(), [delivery], now=kit.now()))
        finally:
            reads.close()

    with (
        held(psql, f"SELECT 1 FROM deliveries WHERE id = {delivery} FOR UPDATE"),
        pytest.raises(Unavailable, match="Another session of the database holds a row of `deliveries`"),
    ):
        asyncio.run(replay())
    asyncio.run(replay())
    assert states(kit) == ["pending"]


# ── followers ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_follower_whose_row_is_held_says_so_and_goes_on_once_it_is_free(kit, psql):
    send(kit, "A1")
    kit.drain()
    stopping = Event()
    with receiving() as endpoint, closing(Target(endpoint.url, follower="erp")) as target, capture_logs() as lines:
        options = FollowOptions(name="erp", begin="start", poll=0.01, first_backoff=0.01)
        thread = Thread(target=Following(kit.database, target, options, stopping=stopping).run)
        thread.start()
        try:
            wait_until(lambda: endpoint.ids() == ["A1"], "the first change")
            with held(psql, "SELECT 1 FROM followers FOR UPDATE"):
                wait_until(lambda: said(lines, "the follower waits for a lock"), "the follower to say why it waits")
                send(kit, "A2")
                kit.drain()
            wait_until(lambda: "A2" in endpoint.ids(), "the next change")
        finally:
            stopping.set()
            thread.join(TIMEOUT)
    assert "a row of `followers`" in said(lines, "the follower waits for a lock")[0]["reason"]


def said(lines, event: str) -> list:
    return [line for line in lines if line["event"] == event]
