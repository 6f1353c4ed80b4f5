"""Several endpoint processes behind one socket: a dead one is replaced, all end together, and their metrics add up."""

from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from commanding import TIMEOUT, Folder, free_port, is_alive, lines, post, product, wait_until


def runtime(path: Path) -> Folder:
    """Keep temporary files below this folder, because a killed parent leaves the folder of its metrics behind."""
    return Folder(path, environment={"TMPDIR": str(path)})


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Run two endpoint processes and a worker; give the installation, the parent, and the port."""
    folder = runtime(tmp_path_factory.mktemp("processes"))
    with folder.serving("--processes", "2") as (process, client):
        wait_until(lambda: len(children(process.pid, "serve")) == 2, "both endpoint processes")
        wait_until(lambda: children(process.pid, "worker"), "the worker")
        yield folder, process, client.base_url.port


def children(parent: int, command: str) -> set[int]:
    """Return the process ids of the parent's children that run this command."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat, words = (entry / "stat").read_text(), (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if int(stat.rpartition(")")[2].split()[1]) == parent and command.encode() in words:
                found.add(int(entry.name))
    return found


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def states(folder: Folder) -> dict[str, str]:
    with closing(sqlite3.connect(folder.database)) as beside:
        return {str(number): state for number, state in beside.execute("SELECT id, state FROM deliveries")}


def post_alone(port: int, content: bytes) -> httpx.Response:
    """Post over a connection of its own, which any of the processes may accept."""
    # Load no certificates, which are not needed here and take longer to load than everything else.
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT, verify=False) as client:
        return post(client, content)


def ask_alone(port: int, path: str) -> int:
    """Ask over a connection of its own, which any of the processes may accept; return the answer's status."""
    return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=TIMEOUT, verify=False).status_code


def counted(port: int, sample: str) -> float:
    """Sum a sample of /metrics over its labels."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=TIMEOUT, verify=False).text
    return sum(float(value) for value in re.findall(rf"^{sample}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


def test_the_one_worker_applies_what_any_process_accepts(served):
    folder, _, port = served
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: post_alone(port, product(n, key="any", name="Lamp")), range(40)))
    assert {answer.status_code for answer in answers} == {200}
    acked = {answer.json()["delivery"] for answer in answers}
    wait_until(lambda: {states(folder)[each] for each in acked} == {"processed"}, "the worker")


def test_one_endpoint_and_a_worker_in_a_process_of_its_own_are_started_and_end_together(tmp_path):
    folder = runtime(tmp_path)
    with folder.serving("--worker-process") as (process, client):
        (endpoint,) = wait_until(lambda: children(process.pid, "serve"), "the endpoint")
        (worker,) = wait_until(lambda: children(process.pid, "worker"), "the worker")
        delivery = post(client, product(1, key="apart", name="Lamp")).json()["delivery"]
        wait_until(lambda: states(folder)[delivery] == "processed", "the worker")
        process.terminate()
        assert process.wait(TIMEOUT) == 0
    assert not is_there(endpoint)
    assert not is_there(worker)


def test_a_worker_process_without_a_worker_is_refused(tmp_path):
    done = runtime(tmp_path).run("serve", "--worker-process", "--no-worker")
    assert (done.returncode, "leave one of them out" in done.stderr) == (1, True)


def test_the_metrics_of_any_process_are_those_of_all(served):
    _, _, port = served
    before = counted(port, "hookmirror_deliveries_total")
    posted = [post_alone(port, product(number, key="metrics", name="Lamp")) for number in range(20)]
    assert {answer.status_code for answer in posted} == {200}
    # A process counts an accepted webhook after its answer.
    wait_until(lambda: counted(port, "hookmirror_deliveries_total") >= before + 20, "what the endpoints count")
    assert {counted(port, "hookmirror_deliveries_total") for _ in range(10)} == {before + 20}
    wait_until(lambda: counted(port, "hookmirror_ended_total") >= before + 20, "what the worker counts")


def test_a_gauge_of_the_database_is_shown_once_for_all_processes(served):
    _, _, port = served
    for _ in range(6):
        text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=TIMEOUT).text
    assert len(re.findall(r"^hookmirror_oldest_pending_seconds ", text, re.MULTILINE)) == 1
    assert "pid=" not in text


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_a_killed_process_is_replaced_and_its_counts_stay(served, command):
    _, parent, port = served
    counts = counted(port, "hookmirror_deliveries_total")
    before = children(parent.pid, command)
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len(children(parent.pid, command) - {victim}) == len(before), "its successor")
    assert before - {victim} <= children(parent.pid, command)
    wait_until(lambda: counted(port, "hookmirror_deliveries_total") == counts, "the same counts")


def test_nothing_acked_is_lost_while_processes_are_killed_and_all_end_together(served):
    """The last test of these processes."""
    folder, parent, port = served
    acked: list[str] = []
    ending = threading.Event()

    def stream(sender: int) -> None:
        number = 0
        while not ending.is_set():
            try:
                answer = post_alone(port, product(number, key=f"{sender}", name="Lamp"))
            except httpx.TransportError:
                continue
            assert answer.status_code in (200, 503)
            acked.extend([answer.json()["delivery"]] if answer.status_code == 200 else [])
            number += 1
            # The processes that start need the cores.
            ending.wait(0.01)

    with ThreadPoolExecutor() as pool:
        senders = [pool.submit(stream, number) for number in range(3)]
        try:
            for _ in range(2):
                sofar = len(acked)
                wait_until(lambda sofar=sofar: len(acked) > sofar + 20, "acks")
                wait_until(lambda: len(children(parent.pid, "serve")) == 2, "both processes")
                os.kill(min(children(parent.pid, "serve")), signal.SIGKILL)
            sofar = len(acked)
            wait_until(lambda: len(acked) > sofar + 20, "acks after the last kill")
            everybody = children(parent.pid, "serve") | children(parent.pid, "worker")
            parent.terminate()
            assert parent.wait(TIMEOUT) == 0
        finally:
            ending.set()
        for sender in senders:
            sender.result()
        told = parent.stderr.read()
        assert "Traceback" not in told, told[told.index("Traceback") :]
    assert not [pid for pid in everybody if is_there(pid)]
    assert set(acked) <= states(folder).keys()
    assert set(states(folder).values()) <= {"pending", "processed"}


class Life(NamedTuple):
    """Observations of two endpoint processes without a worker, from their start until their parent was killed."""

    early: httpx.Response
    #: The statuses with which they answer requests for the console.
    consoles: set[int]
    workers: set[int]
    left: list[int]
    answers: bool


@pytest.fixture(scope="module")
def life(tmp_path_factory) -> Life:
    folder, port = runtime(tmp_path_factory.mktemp("life")), free_port()
    with folder.running("serve", "--processes", "2", "--no-worker", "--console", "--port", str(port)) as parent:
        assert "listening" in parent.stderr.readline()
        early = post_alone(port, product(1, key="early", name="Lamp"))
        everybody = wait_until(lambda: two(children(parent.pid, "serve")), "both processes")
        consoles = {ask_alone(port, "/console/") for _ in range(10)}
        workers = children(parent.pid, "worker")
        parent.kill()
        with suppress(AssertionError):
            wait_until(lambda: not [pid for pid in everybody if is_there(pid)], "the end of the processes")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT, verify=False) as client:
            return Life(early, consoles, workers, [pid for pid in everybody if is_there(pid)], is_alive(client))


def two(found: set[int]) -> set[int] | None:
    return found if len(found) == 2 else None


def test_a_connection_before_the_first_process_is_ready_waits_for_it(life):
    assert life.early.status_code == 200


def test_processes_that_share_a_socket_all_have_the_console(life):
    assert life.consoles == {401}


def test_no_worker_option_starts_no_worker(life):
    assert life.workers == set()


def test_no_process_stays_on_the_port_when_the_parent_is_killed(life):
    assert (life.left, life.answers) == ([], False)


def test_a_socket_opened_by_the_starter_is_served(tmp_path):
    folder = Folder(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port, number = listening.getsockname()[1], listening.fileno()
        command = [sys.executable, "-m", "receiver", "serve", "--fd", str(number)]
        output = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, cwd=tmp_path, env=folder.surroundings(), pass_fds=[number], **output) as process:
            try:
                # Connections wait in the starter's socket, so the test need not wait until the server listens.
                assert post_alone(port, product(1, key="early", name="Lamp")).status_code == 200
            finally:
                process.terminate()
    assert process.returncode == 0


# ── other servers ─────────────────────────────────────────────────────────────────────────────────────────────


def uvicorn(folder: Folder, port: int, *, workers: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "uvicorn", "--factory", "receiver.server.app:create"),
            *("--workers", str(workers), "--port", str(port)),
        ],
        cwd=folder.path,
        env=folder.surroundings(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_uvicorn_serves_the_factory_with_several_workers(tmp_path):
    folder, port = Folder(tmp_path), free_port()
    address = f"http://127.0.0.1:{port}"
    with uvicorn(folder, port, workers=2) as process, httpx.Client(base_url=address, timeout=TIMEOUT) as client:
        try:
            wait_until(lambda: process.poll() is not None or is_alive(client), "uvicorn")
            assert post_alone(port, product(1, key="uvicorn", name="Lamp")).status_code == 200
        finally:
            process.terminate()
            process.communicate()
    assert list(states(folder).values()) == ["pending"]


def test_uvicorn_ends_with_one_line_of_ours_if_the_settings_are_wrong(tmp_path):
    with uvicorn(Folder(tmp_path, settings="colour = 1"), free_port(), workers=1) as process:
        _, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 3
    assert [line for line in lines(err) if "colour: there is no such setting" in line]
    assert "Traceback" not in err


# ── a separate worker ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_worker_serves_its_health_and_metrics_on_its_own_port(tmp_path):
    folder, port = Folder(tmp_path), free_port()
    with folder.serving("--no-worker") as (_, client):
        assert post(client, product(1, key="vitals", name="Lamp")).status_code == 200
    with folder.running("worker", "--metrics-port", str(port)) as worker:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT) as client:
            wait_until(lambda: worker.poll() is not None or is_alive(client), "the worker")
            assert client.get("/healthz").json() == {"status": "alive"}
            wait_until(lambda: counted(port, "hookmirror_ended_total") == 1, "the count of its work")
            assert client.get("/hooks/iimmpact").status_code == 404
        worker.terminate()
        assert worker.wait(TIMEOUT) == 0


def test_a_worker_without_a_port_for_metrics_does_not_listen(tmp_path):
    with Folder(tmp_path, fresh=True).running("worker") as worker:
        assert "working" in worker.stderr.readline()
        assert [each for each in open_files(worker.pid) if each.startswith("socket:")] == []


def open_files(pid: int) -> Iterator[str]:
    """Describe the files that the process has open, which opens and closes others meanwhile."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            yield os.readlink(link)
