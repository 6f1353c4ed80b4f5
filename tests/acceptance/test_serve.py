"""`serve` and `worker` as processes: they end when asked to, lose nothing, and survive a full disk."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import httpx
import pytest
from commanding import SECRET_KEY, TIMEOUT, Folder, is_alive, lines, post, product, signed, wait_until
from sqlalchemy import text
from trouble import run_statements

from receiver.database.database import Database


def stored(folder: Folder) -> dict[str, str]:
    """Return the state of every delivery in the database, by its id."""
    return {str(number): state for number, state in folder.query("SELECT id, state FROM deliveries")}


def test_serve_ended_by_sigterm_in_the_middle_of_a_stream_exits_with_0_and_loses_nothing_acked(
    tmp_path, mirror_url, database_system
):
    # The end of an interpreter is the same on both databases.
    folder = Folder(tmp_path, database_url=mirror_url, fresh=database_system == "sqlite")
    enough, acked = threading.Event(), []

    def stream(sender: int) -> None:
        for number in range(10_000):
            try:
                answer = post(client, product(number, key=f"{sender}", name="Lamp"))
            except httpx.TransportError:
                return
            assert answer.status_code in (200, 503)
            if answer.status_code == 200:
                acked.append(answer.json()["delivery"])
            if len(acked) > 100:
                enough.set()

    with folder.serving() as (process, client), ThreadPoolExecutor() as pool:
        senders = [pool.submit(stream, number) for number in range(4)]
        assert enough.wait(TIMEOUT)
        process.terminate()
        assert process.wait(TIMEOUT) == 0
        for sender in senders:
            sender.result()
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert len(acked) > 100
    assert set(acked) <= stored(folder).keys()
    assert set(stored(folder).values()) <= {"pending", "processed"}


@contextmanager
def nobody_else_writes(folder: Folder):
    """Keep accepts waiting until the end of the block: on PostgreSQL not for a lock, since they soon give that up."""
    with closing(Database(folder.url)) as other:
        before, after = (WAITING, ENDED) if other.is_postgresql else ([], [])
        run_statements(other, before)
        with other.write() as connection:
            if other.is_postgresql:
                connection.execute(text("SELECT pg_advisory_xact_lock(2026)"))
            yield
        run_statements(other, after)


#: Statements after which inserts of deliveries wait while a transaction holds a lock, and those that end this.
WAITING = [
    "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN "
    "WHILE NOT pg_try_advisory_xact_lock_shared(2026) LOOP PERFORM pg_sleep(0.01); END LOOP; RETURN NEW; END$$",
    "CREATE TRIGGER wait BEFORE INSERT ON deliveries FOR EACH ROW EXECUTE FUNCTION wait()",
]
ENDED = ["DROP FUNCTION wait CASCADE"]


def test_requests_that_wait_for_their_commit_when_sigterm_comes_are_all_answered(tmp_path, mirror_url):
    folder = Folder(tmp_path, database_url=mirror_url)
    with folder.serving() as (process, client), ThreadPoolExecutor(20) as pool:
        with nobody_else_writes(folder):
            steps: list[str] = []
            waiting = [pool.submit(post_told, client, product(n, key="x", name="Lamp"), steps) for n in range(20)]
            wait_until(lambda: steps.count(SENT) == 20, "all requests to be sent")
            assert is_alive(client), "and to be read, because what came before this question was"
            process.terminate()
            wait_until(lambda: not is_alive(client), "the server to take no more")
        answers = [request.result(TIMEOUT) for request in waiting]
        assert process.wait(TIMEOUT) == 0
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["delivery"] for answer in answers} == stored(folder).keys()
    assert set(stored(folder).values()) <= {"pending", "processed"}
    assert folder.count("claimed_by IS NOT NULL") == 0


#: The step in which the last byte of a request has been sent.
SENT = "http11.send_request_body.complete"


def post_told(client: httpx.Client, content: bytes, steps: list[str]) -> httpx.Response:
    """Post a webhook, and add the steps of the client to a list."""
    trace = {"trace": lambda step, _: steps.append(step)}
    return client.post("/hooks/iimmpact", content=content, headers=signed("iimmpact", content), extensions=trace)


def test_a_full_disk_is_answered_with_503_and_acks_go_on_once_there_is_room(tmp_path):
    folder = Folder(tmp_path)
    with folder.serving() as (process, client):
        assert post(client, product(1, key="before", name="Lamp")).status_code == 200
        wait_until(lambda: set(stored(folder).values()) == {"processed"}, "the worker")
        before = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4_096, before[1]))
        full = post(client, product(2, key="full", name="Lamp"))
        assert (full.status_code, full.json()["error"]) == (503, "unavailable")
        assert int(full.headers["retry-after"]) >= 1
        assert client.get("/healthz").status_code == 200
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, before)
        # The database must be shown to be sound first, which takes a moment.
        wait_until(lambda: post(client, product(1, key="before", name="Lamp")).status_code == 200, "soundness")
        again = post(client, product(2, key="full", name="Lamp"))
        assert (again.status_code, again.json()["status"]) == (200, "accepted")
        wait_until(lambda: set(stored(folder).values()) == {"processed"}, "the worker after the trouble")
        assert len(stored(folder)) == 2


def test_serve_prints_nothing_on_standard_output_and_no_secret_anywhere(tmp_path, mirror_url, database_system):
    # The end of an interpreter prints the same on both databases.
    folder = Folder(tmp_path, database_url=mirror_url, fresh=database_system == "sqlite")
    with folder.serving("--no-worker") as (process, client):
        post(client, product(1, key="x", name="Lamp"))
        client.post("/hooks/sigma", content=b"{}", headers={"X-Sigma-Signature": "sha256=00"})
        process.terminate()
        out, err = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, lines(out)) == (0, [])
    assert "secret-of-these-tests" not in err
    assert "secret-key-of-these-tests" not in err


HANGING = """
import threading
from datetime import UTC, datetime
from typing import Any

import httpx

from handlers.catalog import Product
from receiver import Dialect, Envelope, HmacSha256, Listed, SourceSettings, Wanted
from receiver.server import server

# The request outlives any grace, and the test waits for all of it.
server.REQUEST_GRACE = 1

hanging = Dialect("hanging", verify=HmacSha256(header="X-Signature"))


@hanging.envelope
def read(body: dict[str, Any]) -> Envelope:
    return Envelope(event_type="x", entity=("product", "A1"), occurred_at=datetime.now(UTC), data=None)


@hanging.connect
def connect(source: SourceSettings) -> httpx.Client:
    return httpx.Client()


@hanging.lookup(Product)
def ask(api: httpx.Client, wanted: Wanted) -> list[Listed]:
    open("asked", "w").close()
    threading.Event().wait()
    return []
"""


def test_serve_ends_although_a_lookup_of_a_source_never_returns(tmp_path):
    settings = f'secret_key = "{SECRET_KEY}"\ndialects = ["hanging:hanging"]\n[sources.hanging]\nsecrets = ["x"]'
    (tmp_path / "hanging.py").write_text(HANGING)
    folder = Folder(tmp_path, f'{settings}\napi_url = "http://127.0.0.1:9"', fresh=True)
    with folder.serving() as (process, client):
        headers = {"Authorization": f"Bearer {folder.run('token', '--scope', 'operate').stdout.strip()}"}
        with pytest.raises(httpx.ReadTimeout):
            client.post("/api/v1/catalog/products/hanging/A1/ask", headers=headers, timeout=1.0)
        wait_until((tmp_path / "asked").exists, "the lookup")
        process.terminate()
        process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0


def test_serve_ends_in_order_after_a_request_for_a_web_socket(tmp_path):
    folder = Folder(tmp_path)
    with folder.serving() as (process, client):
        wanted = {"Connection": "Upgrade", "Upgrade": "websocket"}
        assert client.post("/hooks/sigma", content=b"{}", headers=wanted).status_code == 401
        process.terminate()
        _, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0
    assert "Traceback" not in err


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a signal cannot be sent to one thread of a process")
@pytest.mark.parametrize("command", ["serve", "worker"])
def test_a_signal_that_another_thread_gets_ends_the_process(tmp_path, command):
    """The system gives a signal to any thread, for example if the process was paused when the signal came."""
    folder, options = Folder(tmp_path), ("--port", "0") if command == "serve" else ()
    folder.migrate()
    with folder.running(command, *options) as process:
        wait_until(lambda: folder.count(table="processes") == 1, "the main thread to wait for the end")
        others = {*map(int, os.listdir(f"/proc/{process.pid}/task"))} - {process.pid}
        # The first is the one that copies the log, and does not end before the process.
        assert ctypes.CDLL(None).tgkill(process.pid, min(others), signal.SIGTERM) == 0
        assert process.wait(TIMEOUT) == 0
