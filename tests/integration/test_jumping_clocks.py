"""Clocks that are set back by an hour, or forward by a day, while something is under way: nothing waits for them."""

from __future__ import annotations

import tempfile
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paging import PagedSource, listened_to
from running import Runs, asked, new_reconciler
from shopping import NOON, drain, named, new_shop, new_worker, sources_of, states
from sqlalchemy import insert, select, update

from handlers.catalog import Product
from receiver.database.database import Database
from receiver.errors import Retry, RunConflict
from receiver.inbox import ids
from receiver.inbox.retries import RetrySchedule
from receiver.inbox.tables import DELIVERIES
from receiver.runs.immediate_actions import replay_now
from receiver.runs.runs import Verbs
from receiver.runs.schedule import ReconcileSchedule, due_sources
from receiver.runs.tables import RunState
from receiver.search.deliveries import list_deliveries
from receiver.search.filters import DeliveryFilter
from receiver.search.pages import PageBounds
from receiver.sessions import sessions
from receiver.sessions.links import Invitation
from receiver.sessions.roles import Role
from receiver.testing import Webhooks
from receiver.worker.processes import PROCESSES, Wiring
from receiver.worker.reclaiming import Reclaiming

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def send(kit, *names):
    return [int(kit.send("shop", "product.updated", id=each, at=NOON, data=named()).delivery) for each in names]


# ── deliveries ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def reclaiming(kit) -> Reclaiming:
    return Reclaiming(kit.inbox, lease=timedelta(seconds=60), max_attempts=10)


def test_deliveries_that_arrived_before_the_clock_was_set_back_do_not_wait_for_it(kit, reclaiming):
    reclaiming.look(kit.now())
    send(kit, "A", "B")
    kit.advance(hours=-1)
    assert kit.drain() == 0
    reclaiming.look(kit.now())
    assert kit.drain() == 2
    assert states(kit) == ["processed", "processed"]


def test_a_worker_that_begins_after_the_clock_was_set_back_finds_them_too(kit, reclaiming):
    send(kit, "A")
    kit.advance(hours=-1)
    reclaiming.look(kit.now())
    assert kit.drain() == 1


def test_a_retry_stays_due_when_its_clock_says_so(kit, shop, reclaiming):
    @shop.on("failing")
    def fail(event, mirror):
        raise RuntimeError("not yet")

    kit.send("shop", "failing", id="A", at=NOON, data={})
    with closing(new_worker(kit, retries=RetrySchedule(first=HOUR))) as worker:
        assert drain(worker) == 1
        reclaiming.look(kit.now())
        assert drain(worker) == 0


def test_a_retry_does_not_wait_for_the_clock_that_was_set_back_after_its_attempt(kit, shop, reclaiming):
    @shop.on("failing")
    def fail(event, mirror):
        raise RuntimeError("not yet")

    def due_at() -> datetime:
        with kit.database.read() as connection:
            return connection.execute(select(DELIVERIES.c.due_at)).scalar_one()

    kit.advance(days=1)
    kit.send("shop", "failing", id="A", at=NOON, data={})
    with closing(new_worker(kit, retries=RetrySchedule(first=HOUR))) as worker:
        began = kit.now()
        assert drain(worker) == 1
        assert timedelta() <= due_at() - kit.now() <= HOUR
        wait = due_at() - began
        kit.advance(days=-1)
        reclaiming.look(kit.now())
        assert due_at() - kit.now() <= wait
        kit.advance(seconds=HOUR.total_seconds())
        assert drain(worker) == 1


def test_a_long_wait_is_not_shortened_by_each_worker_that_sees_the_clock_set_back(kit, shop):
    @shop.on("limited")
    def wait(event, mirror):
        raise Retry("too many requests", after=6 * HOUR)

    kit.send("shop", "limited", id="A", at=NOON, data={})
    with closing(new_worker(kit)) as worker:
        assert drain(worker) == 1
        kit.advance(hours=-1)
        for _ in range(4):
            Reclaiming(kit.inbox, lease=timedelta(seconds=60), max_attempts=10).look(kit.now())
        kit.advance(hours=5.9)
        assert drain(worker) == 0
        kit.advance(hours=1.2)
        assert drain(worker) == 1


def test_dead_workers_are_looked_for_although_the_clock_was_set_back(kit, reclaiming):
    (delivery,) = send(kit, "A")
    reclaiming.look(kit.now())
    kit.inbox.claim("gone", ["shop"], limit=1, now=kit.now(), lease=timedelta(seconds=-1))
    kit.advance(hours=-1)
    with kit.database.write() as connection:
        expired = update(DELIVERIES).where(DELIVERIES.c.id == delivery)
        connection.execute(expired.values(lease_until=kit.now() - timedelta(seconds=1)))
    reclaiming.look(kit.now())
    assert states(kit) == ["pending"]


def claim(kit, *, suspect: bool = False) -> int:
    lease = timedelta(seconds=60)
    return len(kit.inbox.claim("gone", ["shop"], limit=10, now=kit.now(), lease=lease, suspect=suspect))


def test_deliveries_that_a_vanished_worker_claimed_before_the_clock_was_set_back_wait_for_one_lease(kit, reclaiming):
    send(kit, "A")
    kit.advance(days=1)
    assert claim(kit) == 1
    kit.advance(days=-1)
    later = kit.send("shop", "product.updated", id="A", at=NOON + HOUR, data=named("Lantern"))
    reclaiming.look(kit.now())
    kit.advance(seconds=61)
    reclaiming.look(kit.now())
    # A suspect and a later event of its entity take turns.
    while kit.drain():
        pass
    assert states(kit) == ["processed", "processed"]
    assert kit.delivery(later)["outcome"] == "applied"


def test_a_worker_that_still_works_as_the_clock_is_set_back_keeps_its_deliveries_for_a_lease(kit, reclaiming):
    send(kit, "A")
    kit.advance(days=1)
    assert claim(kit) == 1
    kit.advance(days=-1)
    reclaiming.look(kit.now())
    kit.advance(seconds=59)
    reclaiming.look(kit.now())
    assert states(kit) == ["processing"]


def test_a_lease_granted_by_a_clock_that_is_a_little_ahead_stays(kit, reclaiming):
    send(kit, "A")
    kit.advance(seconds=30)
    assert claim(kit) == 1
    kit.advance(seconds=-30)
    before = leases(kit)
    reclaiming.look(kit.now())
    assert leases(kit) == before


@pytest.mark.parametrize(("seen", "stays"), [(timedelta(0), True), (timedelta(days=1), False)])
def test_a_long_lease_of_a_running_process_stays_beside_a_worker_with_a_short_one(kit, reclaiming, seen, stays):
    """A process that has not been seen since the clock was set back does not count as running."""
    send(kit, "A")
    kit.inbox.claim("far:name:1:2:worker", ["shop"], limit=1, now=kit.now(), lease=timedelta(minutes=10))
    with kit.database.write() as connection:
        values = {"host": "far", "pid": 1, "kind": "worker", "release": "0", "revision": "", "fingerprint": ""}
        times = {"started_at": kit.now(), "seen_at": kit.now() + seen}
        connection.execute(insert(PROCESSES).values(name="far:name:1:2:process", wiring=[], **values, **times))
    before = leases(kit)
    reclaiming.look(kit.now())
    assert (leases(kit) == before) is stays


def leases(kit) -> list[datetime | None]:
    with kit.database.read() as connection:
        return list(connection.execute(select(DELIVERIES.c.lease_until)).scalars())


def test_a_suspect_of_before_the_clock_was_set_back_does_not_wait_for_it(kit, reclaiming):
    send(kit, "A")
    kit.advance(days=1)
    assert claim(kit) == 1
    kit.inbox.reclaim(now=kit.now(), dead=["gone"], max_attempts=10)
    kit.advance(days=-1)
    assert kit.drain() == 0
    reclaiming.look(kit.now())
    assert kit.drain() == 1


def test_a_suspect_waits_for_its_turn_when_a_worker_begins(kit, reclaiming):
    send(kit, "A")
    for suspect in (False, True):
        assert claim(kit, suspect=suspect) == 1
        kit.inbox.reclaim(now=kit.now(), dead=["gone"], max_attempts=10, pause=timedelta(seconds=15))
    reclaiming.look(kit.now())
    assert kit.drain() == 0
    kit.advance(seconds=15)
    assert kit.drain() == 1


def test_a_worker_goes_on_extending_its_leases_after_the_clock_was_set_back(kit, shop):
    until = []

    @shop.on("product.updated", override=True)
    def upsert(event, mirror):
        if event.entity_id == "A":
            kit.advance(hours=-1)
        with kit.database.read() as connection:
            until.append(connection.execute(DELIVERIES.select()).mappings().all()[-1]["lease_until"])
        mirror.upsert(Product, event.entity_id, name="Lamp")

    send(kit, "A", "B")
    kit.drain()
    before, after = until
    assert before - after > timedelta(minutes=59), "the second handler sees the lease by the new time"


def test_a_search_by_time_misses_no_delivery_that_arrived_after_the_clock_was_set_back(kit, monkeypatch):
    began = datetime.now(UTC)
    first = send(kit, "A")
    back = 3_600 * 10**9
    monkeypatch.setattr(ids, "time", SimpleNamespace(time_ns=lambda: ids_time() - back))
    second = send(kit, "B")
    found = list_deliveries(kit.database, DeliveryFilter(begin=began), lambda row: row["id"], PageBounds())
    assert [int(bytes(each)) for each in found.items] == [*second, *first]


ids_time = ids.time.time_ns


# ── runs ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def lend(lend_database):
    @contextmanager
    def lend_kit():
        with tempfile.TemporaryDirectory() as folder, lend_database(Path(folder)) as url:
            kit = Webhooks(Path(folder), {"shop": new_shop()}, database_url=url)
            kit.source("shop")
            try:
                yield kit, Runs(kit, batch_size=4)
            finally:
                kit.close()

    return lend_kit


def test_a_run_ends_whichever_way_the_clock_jumps_and_replays_each_delivery_once(lend):
    """Property."""

    @settings(max_examples=4, deadline=None)
    @given(seed=st.integers(0, 2**32))
    def check(seed):
        random = Random(seed)
        with lend() as (kit, runs):
            deliveries = send(kit, *(f"A{number}" for number in range(9)))
            kit.drain()
            run = runs.plan(*deliveries)
            runs.start(run)
            reclaiming = Reclaiming(kit.inbox, lease=timedelta(seconds=60), max_attempts=10)
            for _ in range(60):
                if random.random() < 0.3:
                    kit.advance(seconds=random.choice((-3_600, 86_400)))
                more = runs.feeder.step(run)
                reclaiming.look(kit.now())
                kit.drain()
                if not more and runs.run(run)["state"] == RunState.DONE:
                    break
            ended = runs.run(run)
            assert (ended["state"], ended["done"]) == ("done", 9)
            assert {len(kit.delivery(str(each))["rounds"]) for each in deliveries} == {2}

    check()


@pytest.mark.parametrize("by_run", [False, True], ids=["by a person", "by another run"])
def test_a_replay_after_the_plan_outdates_it_although_the_clock_was_set_back_between(kit, by_run):
    kit.source("shop")
    runs = Runs(kit)
    deliveries = send(kit, "A")
    kit.drain()
    other, run = runs.plan(*deliveries), runs.plan(*deliveries)
    kit.advance(hours=-1)
    if by_run:
        runs.start(other)
        runs.finish(other)
    else:
        replay_now(kit.inbox, asked("replay", reason="after a fix"), deliveries, now=kit.now())
        kit.drain()
    with pytest.raises(RunConflict, match=f"1 delivery of run {run} was replayed by (ops-1|run {other}) since"):
        runs.start(run)


def test_the_next_scheduled_reconcile_does_not_wait_for_a_clock_that_was_ahead(kit, shop):
    paged = PagedSource()
    paged.speak(shop)
    # Half a day away, so that it is not due in the middle of the test.
    listened_to(kit, reconcile=f"daily {kit.now() + DAY / 2:%H:%M}")
    paged.hold(["A1"])
    schedule = ReconcileSchedule(
        Verbs(kit.database, Wiring.of(sources_of(kit))), sources_of(kit), clock=kit.now, poll=0
    )
    feeder = new_reconciler(kit)
    kit.advance(days=365)
    # First noticed, and reconciled a day later, while the clock is a year ahead.
    for _ in range(2):
        schedule.look()
        while feeder.step_all() == 0:
            pass
        kit.advance(days=1)
    kit.advance(days=-367)
    assert due_sources(kit.database, sources_of(kit), now=kit.now()) == []
    kit.advance(days=1)
    assert [each.name for each in due_sources(kit.database, sources_of(kit), now=kit.now())] == ["shop"]


# ── sessions of the console ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def opened(mirror_url):
    database = Database(mirror_url)
    database.create_tables()
    yield sessions.Sessions(database, ["key" * 16], lifetime=timedelta(hours=12), idle=HOUR)
    database.close()


def begin(opened, *, now=NOON):
    return opened.begin(Invitation("ops-1", Role.OPERATOR, "number"), now=now).cookie


def test_a_session_that_was_ended_stays_ended_when_the_clock_is_set_back(opened):
    cookie = begin(opened)
    ended = sessions.end(opened.database, asked("sign out"), opened.session_of(cookie), now=NOON)
    assert (ended["ends_at"], ended["seen_at"]) == (NOON, NOON)
    for now in (NOON, NOON - HOUR, NOON - DAY):
        assert opened.recognise(cookie, now=now) is None
    assert sessions.end(opened.database, asked("sign out"), opened.session_of(cookie), now=NOON - HOUR) is None


def test_a_session_is_idle_by_the_clock_that_was_set_back(opened):
    cookie = begin(opened)
    assert opened.recognise(cookie, now=NOON - HOUR)
    assert opened.recognise(cookie, now=NOON - timedelta(minutes=1)), "it was used an hour before"
    assert opened.recognise(cookie, now=NOON + timedelta(minutes=58))
    assert opened.recognise(cookie, now=NOON - HOUR)
    assert opened.recognise(cookie, now=NOON + timedelta(minutes=1)) is None, "its last use was more than an hour ago"


def test_a_session_goes_on_after_the_clock_was_ahead_by_a_day(opened):
    cookie = begin(opened)
    assert opened.recognise(cookie, now=NOON + DAY) is None
    assert opened.recognise(cookie, now=NOON)
