"""Readers that are stuck or ask for very much: acks continue beside them, and health checks answer at once."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager

import httpx
import pytest
from serving import TIMEOUT, Served, error, serving, wait_until
from sqlalchemy import text

from receiver.api import deliveries, exposition, readiness, reads
from receiver.api.readiness import REUSE

#: Simultaneous readers, more than there are threads or connections.
READERS = 40


@pytest.fixture
def served(mirror_url, monkeypatch) -> Iterator[Served]:
    monkeypatch.setattr(reads, "LONGEST_WAIT", 0.3)
    monkeypatch.setattr(readiness, "ANSWER_SECONDS", 0.8)
    monkeypatch.setattr(readiness, "READINESS_STATEMENT_SECONDS", 0.5)
    monkeypatch.setattr(exposition, "STATEMENT_SECONDS", 0.5)
    with serving(mirror_url, with_worker=True, api_read_seconds=0.3) as running:
        running.send("iimmpact", id="A1")
        wait_until(lambda: running.count("deliveries", "ended_at IS NULL") == 0, "the worker")
        yield running


@contextmanager
def reading(served: Served, path: str) -> Iterator[list[Future[httpx.Response]]]:
    """Let many readers ask for this repeatedly until the end of the block."""
    over = threading.Event()

    def ask() -> httpx.Response:
        while True:
            answer = served.get(path)
            if over.wait(0.1) or answer.status_code != 503:
                return answer

    with ThreadPoolExecutor(READERS) as pool:
        readers = [pool.submit(ask) for _ in range(READERS)]
        try:
            yield readers
        finally:
            over.set()


def send_some(served: Served) -> None:
    """Post some webhooks, one after the other. Each must be acked before the readers' trouble ends."""
    for count in range(20):
        served.send("iimmpact", id=f"B{count}")


def checked(served: Served, path: str = "/readyz") -> httpx.Response:
    """Return the answer of a health check, which must not wait for the end of a reader's or a lock's block."""
    return served.client.get(path)


def wait_until_ready(served: Served) -> None:
    """Wait until the server says that it is ready: one check may fail because of a standstill."""
    wait_until(lambda: checked(served).json() == {"status": "ready", "warnings": []}, "a server that is ready")


@contextmanager
def locking(served: Served, table: str, mode: str = "ACCESS EXCLUSIVE") -> Iterator[None]:
    with served.beside.write() as connection:
        connection.execute(text(f"LOCK TABLE {table} IN {mode} MODE"))
        yield


@contextmanager
def read_only(served: Served) -> Iterator[None]:
    """Replace all connections by ones that take no writes."""
    name = served.beside.engine.url.database
    with served.beside.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
        connection.execute(text(DISCONNECT))
        try:
            yield
        finally:
            connection.execute(text("SET default_transaction_read_only = off"))
            connection.execute(text(f"ALTER DATABASE {name} RESET default_transaction_read_only"))
            connection.execute(text(DISCONNECT))


DISCONNECT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


def test_acks_go_on_beside_readers_that_are_stuck(served, monkeypatch):
    stuck, show = threading.Event(), deliveries.show_delivery
    monkeypatch.setattr(deliveries, "show_delivery", lambda row: stuck.wait(TIMEOUT) and show(row))
    with reading(served, "/api/v1/deliveries"):
        try:
            wait_until(lambda: served.metric('hookmirror_reads_refused_total{reason="busy"}'), "the bound")
            send_some(served)
            wait_until_ready(served)
            assert checked(served, "/healthz").status_code == 200
        finally:
            stuck.set()


@pytest.mark.parametrize("database_system", ["postgresql"], scope="module")
def test_acks_go_on_beside_readers_that_wait_for_a_lock(served):
    with locking(served, "products"), reading(served, "/api/v1/catalog/products"):
        wait_until(lambda: served.metric('hookmirror_reads_refused_total{reason="slow"}'), "the statement's limit")
        send_some(served)
        wait_until_ready(served)
        assert checked(served, "/healthz").status_code == 200


def test_readers_beyond_the_bound_get_503(served, monkeypatch):
    stuck, show = threading.Event(), deliveries.show_delivery
    monkeypatch.setattr(deliveries, "show_delivery", lambda row: stuck.wait(TIMEOUT) and show(row))
    with ThreadPoolExecutor(READERS) as pool:
        try:
            answers = [pool.submit(served.get, "/api/v1/deliveries") for _ in range(READERS)]
            wait_until(lambda: sum(answer.done() for answer in answers) >= READERS - 4, "the refusals")
        finally:
            stuck.set()
    refused = [answer.result() for answer in answers if answer.result().status_code == 503]
    assert len(refused) >= READERS - 4
    assert {error(answer) for answer in refused} == {(503, "unavailable")}
    assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)
    wait_until(lambda: served.get("/api/v1/deliveries").status_code == 200, "the end of the reads")


@pytest.mark.parametrize("database_system", ["postgresql"], scope="module")
def test_a_read_that_takes_too_long_is_ended_with_advice(served):
    with locking(served, "changes"):
        answer = served.get("/api/v1/changes")
    assert error(answer) == (503, "unavailable")
    assert "longer than 0.3 seconds" in answer.json()["message"]


LOCKED = {"status": "not ready", "reason": "The database cannot be written now: another session holds a lock."}


@pytest.mark.parametrize("database_system", ["postgresql"], scope="module")
def test_the_server_is_not_ready_while_a_table_that_accepting_writes_is_locked(served):
    for table, mode in [
        ("deliveries", "ACCESS EXCLUSIVE"),
        ("deliveries", "SHARE"),
        ("bodies", "SHARE"),
        ("dedup_keys", "EXCLUSIVE"),
    ]:
        with locking(served, table, mode):
            wait_until(lambda: checked(served).json() == LOCKED, "the news")
            assert served.client.get("/metrics").status_code == 200
        wait_until(lambda: checked(served).status_code == 200, "the end of the trouble")


@pytest.mark.parametrize("database_system", ["postgresql"], scope="module")
def test_a_lock_on_another_table_does_not_matter_for_readiness(served):
    for table in ("products", "changes", "attempts", "processes"):
        with locking(served, table):
            time.sleep(REUSE)  # An earlier result of the check counts for this long.
            wait_until_ready(served)


@pytest.mark.parametrize("database_system", ["postgresql"], scope="module")
def test_a_server_on_a_read_only_database_is_not_ready(served):
    with read_only(served):

        def told() -> httpx.Response | None:
            answer = checked(served)
            return answer if answer.json().get("reason") == "The database can be read, but not written." else None

        assert wait_until(told, "the news").status_code == 503
    wait_until(lambda: checked(served).status_code == 200, "the end of the trouble")


@pytest.mark.parametrize("database_system", ["sqlite"], scope="module")
def test_a_server_on_a_file_that_another_program_locks_is_not_ready(served):
    path = served.beside.engine.url.database
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        wait_until(lambda: checked(served).status_code == 503, "the news")
        other.execute("ROLLBACK")
        wait_until(lambda: checked(served).status_code == 200, "the end of the trouble")


def test_after_a_failure_to_store_the_server_is_not_ready_until_a_write_succeeds(served, monkeypatch):
    gathering, registration = served.app._accepting._gathering, served.app._registration
    # Its own heartbeat, which is a write that succeeds, comes before or never.
    wait_until(lambda: registration.wrote_at > 0, "the first heartbeat")
    monkeypatch.setattr(registration, "_try", lambda do: None)
    gathering._last_failed, gathering._failed_at = True, time.monotonic()
    answer = checked(served)
    assert (answer.status_code, answer.json()["reason"][:35]) == (503, "The last attempt to store deliverie")
    registration.heartbeat()
    wait_until_ready(served)
