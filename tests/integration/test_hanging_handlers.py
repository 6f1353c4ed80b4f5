"""Handlers that never return: each blocks a thread for a while, and delays nothing else."""

from __future__ import annotations

import re
import threading
from contextlib import closing
from datetime import timedelta

import httpx
import pytest
from serving import TIMEOUT, wait_until
from shopping import named, new_worker, states
from sqlalchemy import text
from structlog.testing import capture_logs

from handlers.catalog import Product
from receiver import Event, Mirror
from receiver.database.database import Database
from receiver.inbox.retries import RetrySchedule
from receiver.metrics import metrics
from receiver.settings.settings import SourceSettings
from receiver.worker.liveness import POLLS_PER_LEASE, Watch
from receiver.worker.thread import WorkerThread
from receiver.worker.worker import Worker

#: The shortest lease that an installation may set.
LEASE = timedelta(seconds=1)


@pytest.fixture
def ends():
    """Count how often the process would have been ended."""
    return []


@pytest.fixture
def start(kit, ends):
    """Return a function that starts a worker thread as in a server, with these options of its workers."""
    started, before = [], set(threading.enumerate())

    def start(**options) -> None:
        def end() -> None:
            ends.append(1)

        thread = WorkerThread(lambda: new_worker(kit, lease=LEASE, **options), kit.database, end_process=end)
        thread.start()
        started.append(thread)

    yield start
    for thread in started:
        thread.stop()
    ours = {"worker", "hydrate"}
    wait_until(lambda: not ours & {each.name for each in set(threading.enumerate()) - before}, "all to end")


@pytest.fixture
def gate(shop, start):
    """Make every update of a product STUCK… hang until the gate opens, which happens before the threads are stopped.

    Of STUCK-ONCE, only the first attempt hangs.
    """
    gate = threading.Event()

    @shop.on("product.updated", override=True)
    def upsert(event: Event[dict], mirror: Mirror) -> None:
        if event.entity_id.startswith("STUCK") and (event.entity_id != "STUCK-ONCE" or event.attempt == 1):
            gate.wait(TIMEOUT)
        mirror.upsert(Product, event.entity_id, name=event.data["name"])

    yield gate
    gate.set()


def hung() -> float:
    return metrics.REGISTRY.get_sample_value("hookmirror_hung_workers")


def test_while_a_handler_hangs_everything_else_is_processed_and_its_delivery_ends_as_dead(kit, gate, start, ends):
    for number in range(3):
        kit.send("shop", "product.updated", id=f"A{number}", data=named())
    stuck = kit.send("shop", "product.updated", id="STUCK", data=named())
    for number in range(3, 6):
        kit.send("shop", "product.updated", id=f"A{number}", data=named())
    with capture_logs() as logs:
        start(retries=RetrySchedule(attempts=2))
        wait_until(lambda: not {"pending", "processing"} & set(states(kit)), "the end of what hangs")
    assert states(kit) == ["processed"] * 3 + ["dead"] + ["processed"] * 3
    delivery = kit.delivery(stuck)
    assert [each["reason"] for each in delivery["attempts"]] == ["The worker stopped or hung during this attempt."] * 2
    told = [each for each in logs if each["event"] == "a handler hangs"]
    assert [each["delivery"] for each in told] == [int(stuck.delivery)] * 2
    assert all(re.search(r"test_hanging_handlers.*upsert", each["handler"]) for each in told)
    assert all("gate.wait(TIMEOUT)" in each["stack"] for each in told)
    assert ends == []


def test_a_given_up_worker_that_returns_changes_nothing_and_ends(kit, gate, start):
    stuck = kit.send("shop", "product.updated", id="STUCK-ONCE", data=named())
    start()
    wait_until(lambda: kit.delivery(stuck)["attempts_made"] == 2, "the worker that followed")
    wait_until(lambda: states(kit) == ["processed"], "its end")
    wait_until(lambda: hung() == 1, "the count of those that hang")
    gate.set()
    wait_until(lambda: hung() == 0, "the one that hung to end")
    with kit.database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM changes")).scalar() == 1


def test_beyond_a_bound_of_hung_workers_the_process_is_ended(kit, gate, start, ends, monkeypatch):
    monkeypatch.setattr("receiver.worker.thread.MOST_HUNG", 2)
    for number in range(3):
        kit.send("shop", "product.updated", id=f"STUCK{number}", data=named())
    start(batch_size=1)
    wait_until(lambda: ends, "the end of the process")
    assert hung() == 2


def test_a_handler_that_hangs_inside_the_transaction_ends_the_process(kit, shop, gate, start, ends):
    @shop.on("product.updated", override=True)
    def upsert(event: Event[dict], mirror: Mirror) -> None:
        assert mirror.session is not None
        gate.wait(TIMEOUT)
        mirror.upsert(Product, event.entity_id, name=event.data["name"])

    kit.send("shop", "product.updated", id="A1", data=named())
    start()
    wait_until(lambda: ends, "the end of the process")
    assert hung() == 0


def test_a_hydrator_that_hangs_is_given_up_with_its_worker(kit, shop, gate, start):
    @shop.connect
    def client(source: SourceSettings) -> httpx.Client:
        return httpx.Client()

    @shop.hydrate("product.updated")
    def fetch(event: Event, api: httpx.Client) -> None:
        if event.entity_id == "SLOW" and event.attempt == 1:
            gate.wait(TIMEOUT)

    kit.source("shop", api_url="http://127.0.0.1:9")
    kit.send("shop", "product.updated", id="SLOW", data=named())
    kit.send("shop", "product.updated", id="A1", data=named())
    with capture_logs() as logs:
        start()
        wait_until(lambda: states(kit) == ["processed"] * 2, "the worker that followed")
    assert [each["handler"].rpartition(".")[2] for each in logs if each["event"] == "a handler hangs"] == ["fetch"]


def test_each_hang_of_a_hydrator_counts_until_its_delivery_is_dead(kit, shop, gate, start, ends, monkeypatch):
    # The worker's own thread is idle then, and ends as soon as its worker is given up.
    monkeypatch.setattr("receiver.worker.hydration.BUDGET_SECONDS", LEASE.total_seconds() / 10)

    @shop.connect
    def client(source: SourceSettings) -> httpx.Client:
        return httpx.Client()

    @shop.hydrate("product.updated")
    def fetch(event: Event, api: httpx.Client) -> None:
        gate.wait(TIMEOUT)

    kit.source("shop", api_url="http://127.0.0.1:9")
    stuck = kit.send("shop", "product.updated", id="A1", data=named())
    start(retries=RetrySchedule(attempts=2))
    wait_until(lambda: kit.delivery(stuck)["ended_at"], "its end")
    delivery = kit.delivery(stuck)
    assert (delivery["state"], delivery["attempts_made"]) == ("dead", 2)
    assert [each["reason"] for each in delivery["attempts"]] == ["The worker stopped or hung during this attempt."] * 2
    assert ends == []


def test_a_hydrator_that_keeps_calling_its_api_does_not_count_as_hanging(kit, shop, start):
    pause = threading.Event()

    @shop.connect
    def client(source: SourceSettings) -> httpx.Client:
        return httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(204)))

    @shop.hydrate("product.updated")
    def fetch(event: Event, api: httpx.Client) -> None:
        for _ in range(10):
            pause.wait(LEASE.total_seconds() / 4)
            api.get("http://api/")

    kit.source("shop", api_url="http://api")
    stuck = kit.send("shop", "product.updated", id="A1", data=named())
    with capture_logs() as logs:
        start()
        wait_until(lambda: kit.delivery(stuck)["ended_at"], "its end")
    assert [each for each in logs if each["event"] == "a handler hangs"] == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_ended_worker_thread_is_replaced(kit, start, monkeypatch):
    work, ended = Worker.work, []

    def work_or_end(worker: Worker) -> int:
        if not ended:
            ended.append(worker.name)
            raise KeyboardInterrupt
        return work(worker)

    monkeypatch.setattr(Worker, "work", work_or_end)
    kit.send("shop", "product.updated", id="A1", data=named())
    start()
    wait_until(lambda: states(kit) == ["processed"], "the worker that followed")


def test_a_worker_that_waits_for_the_database_does_not_count_as_hanging(kit, start, monkeypatch):
    polls, poll = [], Watch.poll
    monkeypatch.setattr(Watch, "poll", lambda watch: polls.append(poll(watch)) or polls[-1])
    kit.send("shop", "product.updated", id="A1", data=named())
    with closing(Database(kit.database.engine.url.render_as_string(hide_password=False))) as beside:
        with capture_logs() as logs, beside.write() as connection:
            connection.execute(text("UPDATE deliveries SET suspect = suspect"))
            start()
            wait_until(lambda: len(polls) > 2 * POLLS_PER_LEASE, "twice as many polls as find a call hanging")
            assert states(kit)[0] in ("pending", "processing")
        wait_until(lambda: states(kit) == ["processed"], "the worker")
    assert [each for each in logs if each["event"] == "a handler hangs"] == []
