"""`serve` and `worker` as processes: they end when they are asked to, with nothing lost, and outlive a full disk."""

from __future__ import annotations

import resource
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx
from commanding import PATIENCE, Folder, lines, post, product, wait_until


def stored(folder: Folder) -> dict[str, str]:
    """The state of every delivery in the file, by its id."""
    with closing(sqlite3.connect(folder.database)) as beside:
        return {str(number): state for number, state in beside.execute("SELECT id, state FROM deliveries")}


def test_serve_ended_by_sigterm_in_the_middle_of_a_stream_exits_with_0_and_has_lost_nothing_acked(tmp_path):
    folder = Folder(tmp_path)
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
        assert enough.wait(PATIENCE)
        process.terminate()
        assert process.wait(PATIENCE) == 0
        for sender in senders:
            sender.result()
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert len(acked) > 100
    assert set(acked) <= stored(folder).keys()
    assert set(stored(folder).values()) <= {"pending", "processed"}


def test_a_full_disk_is_answered_with_503_and_once_there_is_room_everything_goes_on(tmp_path):
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
        again = post(client, product(2, key="full", name="Lamp"))
        assert (again.status_code, again.json()["status"]) == (200, "accepted")
        wait_until(lambda: set(stored(folder).values()) == {"processed"}, "the worker after the trouble")
        assert len(stored(folder)) == 2


def test_serve_prints_nothing_on_standard_output_and_no_secret_anywhere(tmp_path):
    folder = Folder(tmp_path)
    with folder.serving("--no-worker") as (process, client):
        post(client, product(1, key="x", name="Lamp"))
        client.post("/hooks/sigma", content=b"{}", headers={"X-Sigma-Signature": "sha256=00"})
        process.terminate()
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, lines(out)) == (0, [])
    assert "secret-of-these-tests" not in err
    assert "secret-key-of-these-tests" not in err
