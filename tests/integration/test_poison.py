"""The main property of the pipelines: whatever one delivery does, the good ones of every source are applied in time.

Random poison is mixed with good deliveries of several sources. A worker as in a server works on them, with a short
lease.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import httpx
import pytest
from odd_errors import ODD, TextRaises
from shopping import NOON, named, new_shop, new_worker
from sqlalchemy import select, text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from trouble import refusing_changes
from waiting import wait_until

from handlers.catalog import Product
from receiver import Discard, Event, Mirror, Retry, SourceSettings, Unreadable
from receiver.codec import encode
from receiver.inbox.retries import RetrySchedule
from receiver.inbox.tables import DELIVERIES
from receiver.mirror import unit_of_work
from receiver.worker import worker
from receiver.worker.thread import WorkerThread

#: The shortest lease that an installation may set; and a longer time, with an end, because the thread must end with the
#: test.
LEASE, HANG = timedelta(seconds=1), 1.5

#: Two attempts, in quick succession.
RETRIES = RetrySchedule(attempts=2, first=timedelta(seconds=0.2))

#: `odd` and `slow` have APIs: the client of `odd` cannot be made, and the hydrator of `slow` hangs.
SOURCES = ("north", "south", "odd", "slow")

#: Numbers in a body of 240 kB, which takes 25 times as much memory.
DECIMALS = 60_000

GOOD = 24


def overflow(depth: int = 0) -> None:
    overflow(depth + 1)


def fail(error: BaseException) -> None:
    raise error


#: The deeds of a handler, by the name in the event's data.
HANDLERS: dict[str, Callable[[Mirror], object]] = {
    **{name: lambda _, name=name: fail(ODD[name]()) for name in ODD},
    "it exits": lambda _: fail(SystemExit(1)),
    "it interrupts": lambda _: fail(KeyboardInterrupt()),
    "it ends a generator": lambda _: fail(GeneratorExit()),
    "it never ends": lambda _: overflow(),
    "it lacks memory": lambda _: fail(MemoryError()),
    "it discards without text": lambda _: fail(Discard(TextRaises())),  # type: ignore[arg-type]
    "it cannot read without text": lambda _: fail(Unreadable(TextRaises())),
    "it waits for ever": lambda _: fail(Retry("for ever", after=timedelta.max)),
    "it hangs": lambda _: threading.Event().wait(HANG),
    "it writes what is no write": lambda mirror: mirror.writes.append("no write"),  # type: ignore[arg-type]
    "its row is refused": lambda mirror: mirror.upsert(Product, "X", name="refused"),
    "its row is trouble": lambda mirror: mirror.upsert(Product, "Y", name="trouble"),
    "its own SQL is wrong": lambda mirror: mirror.session.execute(text("SELECT no sense")),
    "its own SQL ends the transaction": lambda mirror: mirror.session.connection().exec_driver_sql("ROLLBACK"),
    "it asks for a session and fails": lambda mirror: fail(TextRaises(mirror.session)),
    "it writes for ever": lambda mirror: [mirror.upsert(Product, f"M{n}", name="m") for n in range(6_000)],
}

#: What an envelope function does.
ENVELOPES: dict[str, Callable[[], object]] = {
    "its envelope raises": lambda: fail(TextRaises()),
    "its envelope exits": lambda: fail(SystemExit(1)),
    "its envelope is text": lambda: "no envelope",
}


@pytest.fixture
def shop():
    """Make a dialect with ordinary events, and events that are poison as their data says."""
    shop = new_shop()
    usual = shop._read

    def read(body):
        return ENVELOPES[body.data]() if body.type == "envelope.odd" else usual(body)

    assert shop._body is not None
    shop._read = read

    @shop.on("product.odd")
    def handle(event: Event[Any], mirror: Mirror) -> None:
        HANDLERS[event.data](mirror)

    made = []

    @shop.connect
    def client(source: SourceSettings) -> httpx.Client:
        made.append(source.name)
        return fail(TextRaises()) if source.name == "odd" and made.count("odd") > 1 else httpx.Client()  # type: ignore[return-value]

    shop.hydrate("product.thin")(lambda event, api: threading.Event().wait(HANG) and None)
    shop.on("product.thin")(lambda event, mirror: None)
    return shop


@pytest.fixture
def _short_pauses(monkeypatch):
    """Shorten the worker's pauses after trouble, and between suspects while others cannot be claimed."""
    monkeypatch.setattr(worker, "POLL_INTERVAL", 0.02)
    monkeypatch.setattr(worker, "FIRST_RETRY_PAUSE", 0.02)
    monkeypatch.setattr(worker, "LONGEST_RETRY_PAUSE", 0.05)


@pytest.fixture
def _picky(monkeypatch):
    """Make a driver that refuses some values, and reports an infrastructure error for others."""
    insert = unit_of_work.insertions

    def insert_or_refuse(dialect, table, names, rows, **options):
        if table.name == "products":
            if any("refused" in row for row in rows):
                raise TextRaises
            if any("trouble" in row for row in rows):
                raise PoolTimeoutError("as if the database were away")
        return insert(dialect, table, names, rows, **options)

    monkeypatch.setattr(unit_of_work, "insertions", insert_or_refuse)


def send_all(kit, chance: random.Random) -> dict[str, list[str]]:
    """Send poison of every kind among good deliveries in random order; return the ids of deliveries by kind."""
    posts: list[tuple[str, str, bytes]] = []

    def add(source: str, event_type: str, entity_id: str, data: Any, *, kind: str = "poison") -> None:
        dialect = kit.source(source).dialect
        body = dialect._compose(event_type, entity_id, NOON, data)
        posts.append((source, kind, encode(body)))

    for number in range(GOOD):
        add(SOURCES[number % 2], "product.updated", f"A{number}", named(), kind="good")
    for number, name in enumerate(HANDLERS):
        add(chance.choice(SOURCES[:2]), "product.odd", f"B{number}", name)
    for number, name in enumerate(ENVELOPES):
        add(chance.choice(SOURCES[:2]), "envelope.odd", f"C{number}", name)
    for number in range(5):
        add("odd", "product.thin", f"D{number}", None)
    for number in range(2):
        add("slow", "product.thin", f"E{number}", None)
    for number in range(3):
        add(chance.choice(SOURCES[:2]), "product.updated", f"F{number}", {"name": [1.5] * DECIMALS})
    for kind in ("not claimed", "not changed"):
        for number in range(3):
            add(chance.choice(SOURCES[:2]), "product.updated", f"{kind}{number}", named(), kind=kind)
    chance.shuffle(posts)
    sent: dict[str, list[str]] = {}
    for source, kind, body in posts:
        answer = kit.send_body(source, body)
        assert answer.status == 200
        sent.setdefault(kind, []).append(answer.delivery)
    return sent


def states(kit) -> dict[str, str]:
    """Return the states of all deliveries by their ids."""
    with kit.database.read() as connection:
        return {str(row.id): row.state for row in connection.execute(select(DELIVERIES.c.id, DELIVERIES.c.state))}


@pytest.mark.usefixtures("_picky", "_short_pauses")
@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 8))])
def test_whatever_some_deliveries_do_the_good_ones_of_every_source_are_applied(kit, seed):
    for name in SOURCES:
        kit.source(name, dialect="shop", **({"api_url": "http://127.0.0.1:9"} if name in ("odd", "slow") else {}))
    sent = send_all(kit, random.Random(seed))
    good = sent["good"]
    refused = f"NEW.id IN ({', '.join(sent['not changed'])})"
    refused += f" OR (NEW.id IN ({', '.join(sent['not claimed'])}) AND NEW.state = 'processing')"
    ends: list[int] = []
    sources = {name: kit.source(name) for name in SOURCES}
    thread = WorkerThread(
        lambda: new_worker(kit, sources=sources, lease=LEASE, retries=RETRIES),
        kit.database,
        end_process=lambda: ends.append(1),
    )
    try:
        with refusing_changes(kit.database, refused):
            thread.start()
            wait_until(lambda: set(map(states(kit).get, good)) == {"processed"}, "the good ones")
        # A worker that has just ended with an error is replaced.
        wait_until(lambda: thread.trouble() is None, "a worker that lives")
    finally:
        with suppress(RuntimeError):
            thread.stop()
    assert ends == []
    applied = {row.external_id for name in SOURCES for row in kit.rows(Product, source=name)}
    assert {f"A{number}" for number in range(GOOD)} <= applied
    assert not {"X", "Y"} & applied
    ended = states(kit)
    assert {ended[each] for each in sent["not changed"]} == {"pending"}
    assert {ended[each] for each in sent["not claimed"]} <= {"dead", "pending"}
