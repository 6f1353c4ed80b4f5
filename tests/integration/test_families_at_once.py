"""Parents and children changed by several workers at the same time: no deadlock, and the right mirror."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import timedelta
from typing import Any

import pytest
from serving import TIMEOUT, wait_until
from shopping import inbox_of_another_process, running, states, url_of
from sqlalchemy import event, text
from telling import NOON, shop

from handlers.catalog import Product, Variant
from receiver.database.database import Database
from receiver.mirror.locks import MOST_LOCKS, lock_families
from receiver.mirror.rows import Key, Write
from receiver.mirror.versions import Rank, Version, microseconds
from receiver.testing import Webhooks
from receiver.worker.worker import Worker

WORKERS, EVENTS, PRODUCTS, VARIANTS = 4, 160, 5, 20

#: The most parameters of a statement on PostgreSQL.
MOST_PARAMETERS = 65_535


@pytest.fixture
def kit(tmp_path, mirror_url):
    with closing(Webhooks(tmp_path, {"shop": shop}, database_url=mirror_url)) as kit:
        yield kit


@pytest.fixture
def errors() -> list[Any]:
    """Collect the errors that the database reports to the other workers."""
    return []


@pytest.fixture
def worker_elsewhere(kit, errors):
    """Return a function that makes workers like those of other processes, for the source `many`."""
    with ExitStack() as stack:

        def make(**options: Any) -> Worker:
            inbox = inbox_of_another_process(kit)
            stack.callback(inbox.database.close)
            event.listen(inbox.database.engine, "handle_error", lambda met: errors.append(met.original_exception))
            return Worker(inbox, {"many": kit.source("many", dialect="shop")}, **options)

        yield make


def some_event(jitter: random.Random, second: int) -> tuple[str, str, Any]:
    variant, product = f"V{jitter.randrange(VARIANTS)}", f"P{jitter.randrange(PRODUCTS)}"
    listed = [f"V{number}" for number in jitter.sample(range(VARIANTS), 3)]
    return jitter.choices(
        [
            ("variant.updated", variant, {"name": f"{second}"}),
            ("variant.updated", variant, {"parent": product}),
            ("variant.deleted", variant, None),
            ("product.updated", product, {"name": f"{second}"}),
            ("product.deleted", product, None),
            ("product.snapshot", product, listed),
        ],
        weights=[50, 15, 5, 10, 10, 10],
    )[0]


def snapshot(kit: Webhooks, source: str) -> list[dict[str, Any]]:
    hidden = {"source", "versions"}
    return [row.model_dump(exclude=hidden) for table in (Product, Variant) for row in kit.rows(table, source=source)]


@pytest.mark.parametrize("most_locks", [MOST_LOCKS, 12], ids=["row by row", "some batches all at once"])
def test_many_workers_at_once_leave_the_mirror_that_one_worker_leaves_without_a_deadlock(
    kit, worker_elsewhere, errors, monkeypatch, most_locks
):
    monkeypatch.setattr("receiver.mirror.locks.MOST_LOCKS", most_locks)
    jitter = random.Random(20260304)
    story = [(*some_event(jitter, second), NOON + timedelta(seconds=second)) for second in range(EVENTS)]
    for source in ("one", "many"):
        kit.source(source, dialect="shop")
    for event_type, entity, data, at in story:
        kit.send("one", event_type, id=entity, at=at, data=data)
    kit.drain()
    for event_type, entity, data, at in story:
        kit.send("many", event_type, id=entity, at=at, data=data)
    with ExitStack() as stack:
        for _ in range(WORKERS):
            stack.enter_context(running(worker_elsewhere(batch_size=20)))
        wait_until(lambda: set(states(kit)) == {"processed"}, "the workers")
    assert snapshot(kit, "many") == snapshot(kit, "one")
    assert {delivery["attempts_made"] for delivery in kit.deliveries()} == {1}
    assert errors == []


def test_news_about_a_child_and_the_loss_of_its_parent_take_their_locks_in_one_order(tmp_path, databases, errors):
    """Both need both rows. The holder of the child's lock must not wait for the parent's lock of the other."""
    with databases.lend(tmp_path) as url, closing(Webhooks(tmp_path, {"shop": shop}, database_url=url)) as kit:
        kit.send("shop", "product.updated", id="P1", at=NOON)
        kit.send("shop", "variant.updated", id="V1", at=NOON, data={"parent": "P1"})
        kit.drain()
        inbox = inbox_of_another_process(kit)
        with closing(inbox.database), closing(Worker(inbox, {"shop": kit.source("shop")})) as other:
            for engine in (kit.database.engine, inbox.database.engine):
                event.listen(engine, "handle_error", lambda met: errors.append(met.original_exception))
            has_child, may_go_on = threading.Event(), threading.Event()

            def stay(_connection, _cursor, statement, *_) -> None:
                if "FROM variants" in statement and "FOR UPDATE" in statement:
                    has_child.set()
                    assert may_go_on.wait(TIMEOUT)

            event.listen(kit.database.engine, "after_cursor_execute", stay)
            with ThreadPoolExecutor() as pool:
                kit.send("shop", "variant.updated", id="V1", at=NOON, data={"name": "child"})
                child = pool.submit(kit.worker.work)
                assert has_child.wait(TIMEOUT)
                kit.send("shop", "product.deleted", id="P1", at=NOON + timedelta(minutes=1))
                parent = pool.submit(other.work)
                with closing(Database(url_of(kit))) as beside:
                    wait_until(lambda: somebody_waits(beside), "the parent's settlement to wait for the child")
                may_go_on.set()
                assert (child.result(TIMEOUT), parent.result(TIMEOUT)) == (1, 1)
        assert errors == []
        assert (kit.row(Variant, "V1").active, kit.row(Variant, "V1").name) == (False, "child")


def test_a_snapshot_of_more_children_than_a_statement_has_parameters_locks_all_of_them(databases, tmp_path):
    news = Version(microseconds(NOON), int(Rank.UPDATE), 1)
    parent = Key(Product, "shop", "P1")
    writes = [Write(Key(Variant, "shop", f"V{number}"), news, {}) for number in range(MOST_PARAMETERS + 1)]
    with databases.lend(tmp_path) as url, closing(Webhooks(tmp_path, {"shop": shop}, database_url=url)) as kit:
        for variant in ("V1", f"V{MOST_PARAMETERS}"):
            kit.send("shop", "variant.updated", id=variant, at=NOON, data={"parent": "another"})
        kit.send("shop", "variant.updated", id="of P1", at=NOON, data={"parent": "P1"})
        kit.send("shop", "variant.updated", id="free", at=NOON)
        kit.drain()
        with kit.database.write() as connection, closing(Database(url_of(kit))) as beside:
            lock_families(connection, [*writes, Write(parent, news, {}, children_gone=Variant)])
            with beside.write() as other:
                free = other.execute(text("SELECT external_id FROM variants FOR UPDATE SKIP LOCKED"))
                assert list(free.scalars()) == ["free"]


def somebody_waits(database: Database) -> bool:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with database.read() as connection:
        return bool(connection.execute(text(waiting)).scalar_one())
