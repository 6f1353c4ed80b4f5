"""The real nginx in front of two endpoints, with the configuration that ships (`deploy/nginx.conf`)."""

from __future__ import annotations

import re
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from commanding import TIMEOUT, Folder, is_alive, post, product, signed, wait_until
from ports import free_port
from programs import Program, find

ROOT = Path(__file__).parents[2]

#: Requests of one test, of which none may be lost.
MANY = 1_000


@contextmanager
def running(program: Program, endpoints: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Run nginx before the endpoints, and give the ports of its public and its private site."""
    public, private = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="hookmirror-nginx-") as name:
        text = (ROOT / "deploy" / "nginx.conf").read_text("utf-8").replace("/tmp/", f"{name}/")
        for number, port in enumerate(endpoints, 1):
            text = text.replace(f"endpoint-{number}:8000", f"127.0.0.1:{port}")
        # These tests do not use the console, but nginx resolves all names when it starts.
        text = text.replace("server console:8000", "server 127.0.0.1:1")
        for declared, port in ((8080, public), (8081, private)):
            text = text.replace(f"listen {declared};", f"listen 127.0.0.1:{port};")
        configuration = Path(name) / "nginx.conf"
        configuration.write_text(text)
        # Run nginx as one process of the user who runs the tests, because no other user may enter this folder.
        command = [
            program.path,
            "-p",
            name,
            "-e",
            "stderr",
            "-c",
            configuration,
            "-g",
            "daemon off; master_process off;",
        ]
        process = subprocess.Popen(command, env=program.environment, stderr=subprocess.PIPE, text=True)
        try:
            wait_until(lambda: process.poll() is not None or listens(public), "nginx")
            yield public, private
        finally:
            process.terminate()
            said = process.communicate(timeout=TIMEOUT)[1]
    assert not re.search("prematurely closed|reset by peer|broken pipe", said), said


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Folder:
    return Folder(tmp_path_factory.mktemp("behind"))


@pytest.fixture(scope="module")
def endpoints(folder: Folder) -> Iterator[list[httpx.Client]]:
    find("nginx")
    with ExitStack() as stack:
        clients = [stack.enter_context(folder.serving("--no-worker"))[1] for _ in range(2)]
        stack.enter_context(folder.running("worker"))
        yield clients


@pytest.fixture(scope="module")
def outside(endpoints: list[httpx.Client]) -> Iterator[httpx.Client]:
    first, second = (client.base_url.port or 0 for client in endpoints)
    with (
        running(find("nginx"), (first, second)) as (port, _),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT) as client,
    ):
        assert is_alive(client)
        yield client


def connections(endpoint: httpx.Client) -> int:
    """Count the established connections to this endpoint as the system shows them."""
    port = endpoint.base_url.port or 0
    rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(row.split()[1].endswith(f":{port:04X}") and row.split()[3] == "01" for row in rows)


def test_no_webhook_of_a_thousand_is_lost_and_connections_are_used_again(outside, endpoints, folder):
    before = folder.count()
    with ThreadPoolExecutor(16) as pool:
        answers = pool.map(lambda n: post(outside, product(n, key=f"n{n}", name="Lamp")).status_code, range(MANY))
        assert set(answers) == {200}
    assert folder.count() - before == MANY
    assert 0 < sum(map(connections, endpoints)) <= 64
    wait_until(lambda: set(folder.states()) == {"processed"}, "the worker")


@pytest.mark.parametrize("size", [200_000, 1_000_000])
def test_a_large_body_arrives_whole_with_its_length_or_in_chunks(outside, folder, size):
    content = product(1, key=f"large{size}", name="L" * size)
    headers = signed("iimmpact", content)
    pieces = (content[start : start + 10_000] for start in range(0, len(content), 10_000))
    said = [outside.post("/hooks/iimmpact", content=each, headers=headers).json() for each in (content, pieces)]
    assert [each["status"] for each in said] == ["accepted", "duplicate"]
    (found,) = folder.query(f"SELECT body FROM bodies WHERE delivery_id = {said[0]['delivery']}")
    assert found == (content,)


def test_a_body_that_is_too_large_is_refused_with_the_endpoint_s_code(outside):
    answer = outside.post("/hooks/iimmpact", content=b"x" * 1_048_577)
    assert (answer.status_code, answer.json()["error"]) == (413, "body_too_large")


@pytest.mark.parametrize("source", ["iimmpact", "nobody"])
def test_refusals_of_the_endpoint_reach_the_sender_unchanged(outside, source):
    answer = outside.post(f"/hooks/{source}", content=b"{}")
    assert answer.status_code == {"iimmpact": 401, "nobody": 404}[source]
    assert answer.json().keys() == {"error", "message"}


def test_the_proxy_does_not_pass_on_an_offer_to_upgrade(outside, folder):
    content = product(2, key="upgrade", name="Lamp")
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQCAAAAAAIAAAAA"}
    answer = outside.post("/hooks/iimmpact", content=content, headers=signed("iimmpact", content) | offer)
    assert answer.json()["status"] == "accepted"


def test_without_an_endpoint_the_proxy_answers_503_with_retry_after():
    with running(find("nginx"), (free_port(), free_port())) as (port, _):
        answer = httpx.post(f"http://127.0.0.1:{port}/hooks/iimmpact", content=b"{}", timeout=TIMEOUT)
    assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
    assert answer.headers["retry-after"] == "5"
