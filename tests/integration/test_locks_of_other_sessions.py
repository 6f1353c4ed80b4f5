"""A session that somebody left open holds locks on PostgreSQL: only the work on its rows waits for it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from threading import Event

import pytest
from running import Runs
from serving import TIMEOUT, wait_until
from shopping import NOON, drain, named, new_worker, running, states, url_of
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from receiver.database import postgresql
from receiver.database.database import Database
from receiver.database.errors import is_overdue
from receiver.inbox.retention import Retention
from receiver.inbox.tables import BODIES, DELIVERIES
from receiver.runs.runs import be_alone

pytestmark = pytest.mark.parametrize("database_system", ["postgresql"], indirect=True)

KEPT = Retention(bodies=timedelta(days=30), dedup_keys=timedelta(days=400))


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
    other = Database(url_of(kit))
    yield other
    other.close()


@contextmanager
def held(psql: Database, statement: str) -> Iterator[None]:
    """Hold the rows that this statement touches during the block."""
    with psql.engine.connect() as connection:
        connection.execute(text(statement))
        yield


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
        assert "lock timeout" in runs.run(run)["trouble"]
        with kit.database.write() as connection:
            be_alone(connection)
    runs.finish(run)
    assert runs.run(run)["tally"] == {"unchanged": 2}
