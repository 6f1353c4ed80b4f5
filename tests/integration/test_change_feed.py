"""The change feed: each follower sees each change exactly once and in commit order, however the writers end."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from serving import TIMEOUT, serving, wait_until
from shopping import NOON, inbox_of_another_process, named, new_worker, running, states, url_of
from sqlalchemy import text

import receiver
from receiver.database.database import Database
from receiver.errors import NotThisFeed
from receiver.mirror import changes
from receiver.mirror.changes import RowChange, record

WRITERS = 4


def change(external_id: str) -> RowChange:
    return RowChange("products", "shop", external_id, "insert", {}, {"active": True}, None, NOON)


def write(database: Database, *external_ids: str) -> None:
    """Record a change for each of these ids in one transaction."""
    with database.write() as connection:
        record(connection, [change(external_id) for external_id in external_ids], now=NOON)


class Consumer:
    """Follows the feed on a thread of its own, and records what it sees."""

    def __init__(self, database: Database) -> None:
        self.seen: list[tuple[int, str]] = []
        self._stopping = threading.Event()
        self._database = database
        self._thread = threading.Thread(target=self._follow)

    def _follow(self) -> None:
        for entry in changes.follow(self._database, stopping=self._stopping, poll=0.001):
            self.seen.append((entry["seq"], entry["external_id"]))

    def __enter__(self) -> Consumer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive()

    def expect(self, number: int) -> None:
        wait_until(lambda: len(self.seen) >= number, "the consumer to see everything")


def test_a_follower_sees_existing_changes_and_then_new_ones(kit):
    write(kit.database, "A1", "A2")
    with Consumer(kit.database) as consumer:
        consumer.expect(2)
        write(kit.database, "A3")
        consumer.expect(3)
    assert [external_id for _, external_id in consumer.seen] == ["A1", "A2", "A3"]


def test_a_follower_that_returns_continues_after_the_last_change_it_saw(kit):
    write(kit.database, "A1", "A2", "A3")
    first = next(changes.follow(kit.database))
    following = changes.follow(kit.database, first["seq"])
    assert [next(following)["external_id"] for _ in range(2)] == ["A2", "A3"]


def test_changes_on_several_pages_are_followed_to_the_end(kit, monkeypatch):
    monkeypatch.setattr(changes, "PAGE", 3)
    write(kit.database, *(f"A{number}" for number in range(10)))
    with Consumer(kit.database) as consumer:
        consumer.expect(10)
    assert [external_id for _, external_id in consumer.seen] == [f"A{number}" for number in range(10)]


def test_a_follower_that_is_stopped_ends_in_the_middle_of_a_page(kit):
    write(kit.database, "A1", "A2", "A3")
    stopping = threading.Event()
    following = changes.follow(kit.database, stopping=stopping)
    next(following)
    stopping.set()
    assert list(following) == []


# ── several writers ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_follower_of_many_writers_that_end_in_any_order_sees_each_change_once(kit):
    """The writers wait before they commit, and some roll back."""

    def keep_writing(writer: int) -> list[str]:
        jitter, written = random.Random(writer), []
        with closing(Database(url_of(kit))) as database:
            for number in range(40):
                name = f"{writer}-{number}"
                try:
                    with database.write() as connection:
                        record(connection, [change(name)], now=NOON)
                        time.sleep(jitter.random() * 0.004)
                        if jitter.random() < 0.2:
                            raise ZeroDivisionError
                except ZeroDivisionError:
                    continue
                written.append(name)
        return written

    with Consumer(kit.database) as consumer, ThreadPoolExecutor(WRITERS) as pool:
        written = [name for names in pool.map(keep_writing, range(WRITERS)) for name in names]
        consumer.expect(len(written))
    assert Counter(external_id for _, external_id in consumer.seen) == Counter(written)
    assert consumer.seen == sorted(consumer.seen)


def test_a_follower_of_several_workers_sees_the_whole_history_of_the_mirror_in_order(kit):
    """The last change of a row equals the row, and each former value occurs once."""
    with ExitStack() as stack:
        workers = [new_worker(kit, batch_size=3)]
        for _ in range(WRITERS - 1):
            inbox = inbox_of_another_process(kit)
            stack.callback(inbox.database.close)
            workers.append(new_worker(kit, inbox=inbox, batch_size=3))
        consumer = stack.enter_context(Consumer(kit.database))
        for worker in workers:
            stack.enter_context(running(worker))
        for number in range(160):
            at = NOON + timedelta(seconds=number)
            kit.send("shop", "product.updated", id=f"A{number % 16}", at=at, data=named(f"{number}"))
        wait_until(lambda: set(states(kit)) == {"processed"}, "the workers")
        consumer.expect(160)
    assert len(consumer.seen) == 160
    assert consumer.seen == sorted(consumer.seen)
    names = {entry["external_id"]: [] for entry in changes.after(kit.database, 0, limit=1_000)}
    for entry in changes.after(kit.database, 0, limit=1_000):
        names[entry["external_id"]].append(int(entry["after"]["name"]))
    assert names == {f"A{first}": list(range(first, 160, 16)) for first in range(16)}


def test_a_follower_over_http_polls_with_next_and_sees_each_change_once(mirror_url):
    with serving(mirror_url) as served, ThreadPoolExecutor(WRITERS) as pool:
        writing = [
            pool.submit(write, served.beside, f"{writer}-{number}") for writer in range(WRITERS) for number in range(20)
        ]
        seen: list[dict] = []
        after = 0

        def poll() -> bool:
            nonlocal after
            page = served.get(f"/api/v1/changes?after={after}&limit=7").json()
            seen.extend(page["items"])
            after = page["next"]
            return len(seen) >= len(writing)

        wait_until(poll, "all changes")
    assert len({entry["external_id"] for entry in seen}) == len(seen) == len(writing)
    assert [entry["seq"] for entry in seen] == sorted(entry["seq"] for entry in seen)


# ── the writers' turns ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def postgres(postgresql_url):
    with closing(Database(postgresql_url)) as database:
        database.create_tables()
        yield database


def test_on_postgresql_a_writer_waits_until_the_writer_with_earlier_numbers_has_committed(postgres):
    with ThreadPoolExecutor() as pool:
        with postgres.write() as slow:
            record(slow, [change("first")], now=NOON)
            quick = pool.submit(write, postgres, "second")
            wait_until(lambda: waiting_for_a_lock(postgres) == 1, "the second writer to wait")
            assert not quick.done()
            assert changes.after(postgres, 0, limit=10) == []
        quick.result(TIMEOUT)
    assert [entry["external_id"] for entry in changes.after(postgres, 0, limit=10)] == ["first", "second"]


def test_on_postgresql_without_turns_a_follower_would_skip_the_slower_writer(postgres, monkeypatch):
    """The sequence alone does not suffice, so the tests above can fail."""
    monkeypatch.setattr(changes, "_wait_for_turn", lambda _: None)
    with postgres.write() as slow:
        record(slow, [change("first")], now=NOON)
        write(postgres, "second")
        (seen,) = changes.after(postgres, 0, limit=10)
    assert seen["external_id"] == "second"
    assert changes.after(postgres, seen["seq"], limit=10) == []
    assert len(changes.after(postgres, 0, limit=10)) == 2


def waiting_for_a_lock(database: Database) -> int:
    with database.read() as connection:
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory' AND database = "
        mine = "(SELECT oid FROM pg_database WHERE datname = current_database())"
        return connection.execute(text(waiting + mine)).scalar_one()


# ── the interface for programs ────────────────────────────────────────────────────────────────────────────────


def test_a_program_that_follows_gets_plain_python_values_only(mirror_url):
    with closing(Database(mirror_url)) as database:
        document = {"weight": Decimal("0.10000000000000000000001"), "tags": ["a"]}
        after = {"active": True, "price": "19.90", "data": document}
        with database.write() as connection:
            record(connection, [RowChange("products", "shop", "A1", "insert", {}, after, 2**62, NOON)], now=NOON)
        entry = next(changes.follow(database))
    assert {name: type(value) for name, value in entry.items()} == {
        **dict.fromkeys(("table", "source", "external_id", "operation", "delivery_id"), str),
        "seq": int,
        "before": dict,
        "after": dict,
        "changed_at": datetime,
        "recorded_at": datetime,
    }
    assert {type(name) for name in entry} == {str}
    assert entry["after"] == after, "every digit of a fraction is there"
    assert (entry["delivery_id"], entry["changed_at"]) == (str(2**62), NOON)


def test_a_position_after_the_end_of_the_feed_is_refused(mirror_url):
    with closing(Database(mirror_url)) as database:
        write(database, "A1")
        with pytest.raises(NotThisFeed, match="ends with 1, and 7 lies beyond"):
            next(changes.follow(database, 7))


def test_the_package_offers_the_module_of_the_change_feed():
    assert receiver.changes is changes
