"""A source's API that hangs, is down or answers without end: deliveries of other sources are applied at once."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer

import httpx
import pytest
from serving import TIMEOUT, wait_until
from shopping import NOON, drain, named, new_worker, running, states
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs
from stub_servers import Stub
from systems import ON_BOTH, database_system  # noqa: F401

from handlers import api as asking
from handlers.api import fetch
from handlers.catalog import Product
from receiver import ApiError, Event, Mirror, SourceSettings
from receiver.worker import hydration, reading

THIN, GOOD = 240, 60


@pytest.fixture
def client_seconds() -> float:
    """Return the seconds for which a client waits for an answer."""
    return TIMEOUT


class Api(ThreadingHTTPServer):
    """Answers with a name. While it `hangs` it does not answer, and while it is `busy` it answers 503."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.up = threading.Event()
        self.busy = False
        self.asked = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: socket.socket, client_address: object) -> None:
        """Ignore clients that went away."""


class Answer(Stub):
    def get(self) -> None:
        self.server.asked += 1
        if not self.server.busy:
            self.server.up.wait(TIMEOUT)
        self.answer(b'{"name": "fetched"}', status=503 if self.server.busy else 200)


@pytest.fixture
def served() -> Iterator[Api]:
    server = Api()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.up.set()
    server.shutdown()
    thread.join(TIMEOUT)
    server.server_close()


@pytest.fixture
def sources(shop, kit, served, client_seconds):
    """Make `slow` with an API, which thin events need, and `north` and `south` without one."""

    @shop.connect
    def client(source: SourceSettings) -> httpx.Client | None:
        return httpx.Client(base_url=source.api_url, timeout=client_seconds) if source.api_url else None

    @shop.hydrate("product.thin")
    def fetch_product(event: Event, client: httpx.Client) -> dict:
        return fetch(client, f"/products/{event.entity_id}")

    @shop.on("product.thin")
    def upsert(event: Event, mirror: Mirror) -> None:
        mirror.upsert(Product, event.entity_id, name=event.hydrated["name"])

    options = {"secrets": ["TestSecretOf32CharactersForTests"], "dialect": "shop"}
    return {
        "slow": kit.source("slow", api_url=served.url, **options),
        **{name: kit.source(name, **options) for name in ("north", "south")},
    }


@contextmanager
def patient_clock(kit) -> Iterator[None]:
    """Shorten rests and waits."""
    over = threading.Event()

    def advance() -> None:
        while not over.wait(0.05):
            kit.advance(seconds=10)

    thread = threading.Thread(target=advance)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def send_thin(kit, number: int = THIN) -> list[str]:
    return [kit.send("slow", "product.thin", id=f"T{each}", at=NOON).delivery for each in range(number)]


def send_good(kit) -> list[str]:
    names = [("north", "south")[each % 2] for each in range(GOOD)]
    return [
        kit.send(name, "product.updated", id=f"G{number}", at=NOON, data=named()).delivery
        for number, name in enumerate(names)
    ]


@pytest.mark.parametrize("client_seconds", [2.0])
def test_while_an_api_hangs_other_sources_go_on_and_afterwards_everything_is_applied(kit, served, sources, monkeypatch):
    monkeypatch.setattr(hydration, "BUDGET_SECONDS", 3.0)
    send_thin(kit)
    send_good(kit)
    with capture_logs() as logs, running(new_worker(kit, sources=sources)):
        wait_until(lambda: sum(len(kit.rows(Product, source=each)) for each in ("north", "south")) == GOOD, "the good")
        asked = served.asked
        served.up.set()
        with patient_clock(kit):
            wait_until(lambda: len(kit.rows(Product, source="slow")) == THIN, "what had waited")
        wait_until(lambda: set(states(kit)) == {"processed"}, "the states")
    # The calls alone take two seconds each, eight at a time.
    assert asked < THIN / 4
    assert {each["source"] for each in logs if "API is slow" in each["event"]} == {"slow"}


@ON_BOTH
def test_a_busy_api_costs_a_few_attempts_and_the_other_deliveries_keep_theirs(kit, served, sources):
    served.busy = True
    send_thin(kit, 100)
    (late,) = [kit.send("slow", "product.updated", id="NOT-THIN", at=NOON, data=named())]
    worker = new_worker(kit, sources=sources)
    with capture_logs() as logs:
        drain(worker)
    assert kit.delivery(late)["state"] == "processed"
    assert sum(each["attempts_made"] for each in kit.deliveries() if each["state"] == "pending") <= 10
    assert [each["seconds"] for each in logs if "pausing calls to it" in each["event"]] == [5]
    asked = served.asked
    assert drain(worker) == 0, "its API rests"
    kit.advance(seconds=6)
    drain(worker)
    assert served.asked == asked + 1, "one call finds out whether it is back"
    served.busy = False
    served.up.set()
    kit.advance(seconds=3600)
    drain(worker)
    assert set(states(kit)) == {"processed"}
    worker.close()


@ON_BOTH
@pytest.mark.parametrize("portion_bytes", [reading.PORTION_BYTES, 1])
def test_an_event_does_not_overtake_one_of_its_entity_that_waits_for_the_api(
    kit, served, sources, monkeypatch, portion_bytes
):
    monkeypatch.setattr(reading, "PORTION_BYTES", portion_bytes)
    served.busy = True
    send_thin(kit, 20)
    first = kit.send("slow", "product.thin", id="X", at=NOON)
    second = kit.send("slow", "product.updated", id="X", at=NOON, data=named("newer"))
    worker = new_worker(kit, sources=sources)
    drain(worker)
    assert [(kit.delivery(each)["state"], kit.delivery(each)["attempts_made"]) for each in (first, second)] == [
        ("pending", 0),
        ("pending", 0),
    ]
    worker.close()


@ON_BOTH
def test_a_pass_that_fails_leaves_a_call_in_progress_to_later_passes(kit, served, sources, monkeypatch):
    monkeypatch.setattr(hydration, "BUDGET_SECONDS", 0.1)
    (thin,) = send_thin(kit, 1)
    due, failed = kit.inbox.due, []

    def fail_once(*given, **named):
        if served.asked and not failed:
            failed.append(True)
            raise OperationalError("SELECT", {}, Exception("the database is away"))
        return due(*given, **named)

    monkeypatch.setattr(kit.inbox, "due", fail_once)
    with capture_logs() as logs, running(new_worker(kit, sources=sources)):
        wait_until(lambda: failed, "the pass that fails")
        served.up.set()
        wait_until(lambda: states(kit) == ["processed"], "the answer")
    assert "a pass of the worker failed; trying again" in {each["event"] for each in logs}
    assert (served.asked, kit.delivery(thin)["attempts_made"]) == (1, 1)


def test_a_call_that_ends_while_a_later_pass_waits_for_another_source_ends_its_attempt(shop, kit, monkeypatch):
    may_end, threads = threading.Event(), {}
    shop.connect(lambda source: httpx.Client(base_url=source.api_url))

    @shop.hydrate("product.thin")
    def fetch_product(event: Event, client: httpx.Client) -> str:
        threads[event.source] = threading.current_thread()
        if event.source == "quick":
            # The answer of the slow API comes while the worker waits for this one.
            may_end.set()
            threads["slow"].join(TIMEOUT)
        assert may_end.wait(TIMEOUT)
        return "fetched"

    @shop.on("product.thin")
    def upsert(event: Event, mirror: Mirror) -> None:
        mirror.upsert(Product, event.entity_id, name=event.hydrated)

    options = {"secrets": ["TestSecretOf32CharactersForTests"], "dialect": "shop", "api_url": "http://api.test"}
    sources = {name: kit.source(name, **options) for name in ("slow", "quick")}
    worker = new_worker(kit, sources=sources)
    monkeypatch.setattr(hydration, "BUDGET_SECONDS", 0.1)
    slow = kit.send("slow", "product.thin", id="A1", at=NOON).delivery
    while not threads:
        worker.work()
    monkeypatch.setattr(hydration, "BUDGET_SECONDS", TIMEOUT)
    kit.send("quick", "product.thin", id="A1", at=NOON)
    drain(worker)
    assert states(kit) == ["processed", "processed"]
    assert (kit.delivery(slow)["attempts_made"], kit.delivery(slow)["attempts"]) == (1, [])
    worker.close()


class Keeping(Stub):
    """Answers any number of requests on one connection, and notes the connection of each."""

    protocol_version = "HTTP/1.1"

    def get(self) -> None:
        self.server.connections.append(self.client_address)
        self.answer(b"{}")


def test_a_connection_to_an_api_that_was_idle_for_almost_five_seconds_is_not_used_again(monkeypatch):
    """Many servers close it then, and a request that crosses this fails an attempt."""
    now, passed = time.monotonic, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now() + passed[0])
    with ThreadingHTTPServer(("127.0.0.1", 0), Keeping) as server:
        server.connections, server.daemon_threads = [], True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        with asking.client(SourceSettings(name="shop", api_url=f"http://127.0.0.1:{server.server_port}")) as api:
            for idle in (0.0, 1.0, 4.8):
                passed[0] += idle
                fetch(api, "/products/A1")
        server.shutdown()
        thread.join(TIMEOUT)
    first, second, third = server.connections
    assert first == second
    assert third != second


def test_an_endless_answer_is_refused_at_a_bound(monkeypatch):
    monkeypatch.setattr(asking, "MOST_ANSWERED", 100_000)
    endless = (b" " * 10_000 for _ in iter(int, 1))
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=endless))
    with (
        httpx.Client(base_url="http://api.test", transport=transport) as client,
        pytest.raises(ApiError, match="answered with more than 0 MiB: check api_url"),
    ):
        fetch(client, "/products/A1")
