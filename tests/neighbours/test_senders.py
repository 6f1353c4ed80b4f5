"""Real senders: HTTP clients whose habits differ from those of Python's.

Each program has a counterpart in bytes, which runs everywhere.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import httpx
import pytest
from commanding import Folder, product, signed, wait_until
from programs import find, run

HERE = Path(__file__).parent

#: Seconds between two requests on one connection: longer than many servers keep an idle connection.
PAUSE = 5.5

#: An answer to one post, as its sender saw it.
Posted = dict[str, Any]


@dataclass
class Receiver:
    """A receiver with a worker, shared by the tests of this file."""

    folder: Folder
    client: httpx.Client

    @property
    def port(self) -> int:
        assert self.client.base_url.port is not None
        return self.client.base_url.port

    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks/iimmpact"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def kept(self, content: bytes) -> list[str]:
        """Wait until all deliveries have ended; return the states of those with exactly this body."""
        wait_until(lambda: self.folder.count("state IN ('pending', 'processing')") == 0, "the worker")
        found = self.folder.query("SELECT state, body FROM deliveries JOIN bodies ON delivery_id = deliveries.id")
        return [state for state, body in found if body == content]


#: Posts to the receiver, and returns the answers. The folder is its own.
Sender = Callable[[Receiver, Path], list[Posted]]


@pytest.fixture(scope="module")
def receiver(tmp_path_factory) -> Iterator[Receiver]:
    folder = Folder(tmp_path_factory.mktemp("receiver"))
    with folder.serving() as (_, client):
        yield Receiver(folder, client)


@pytest.fixture(scope="module")
def after_the_pause(receiver, tmp_path_factory) -> Iterator[Callable[[Sender], list[Posted]]]:
    """Return a function that gives what a sender with a pause saw. All of them begin at once, and pause together."""
    with ThreadPoolExecutor() as pool:
        begun = {send: pool.submit(send, receiver, tmp_path_factory.mktemp(send.__name__)) for send in PAUSING}
        yield lambda send: begun[send].result()


def head(content: bytes, *lines: str) -> bytes:
    """Make the head of a signed POST of this content."""
    signature = [f"{name}: {value}" for name, value in signed("iimmpact", content).items()]
    start = ["POST /hooks/iimmpact HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    return "\r\n".join([*start, *signature, *lines, "", ""]).encode()


def read(connection: socket.socket) -> tuple[int, bytes]:
    """Read the next answer on this connection."""
    answer = HTTPResponse(connection)
    answer.begin()
    return answer.status, answer.read()


def in_chunks(content: bytes, size: int = 100) -> bytes:
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


# ── an offer to upgrade ───────────────────────────────────────────────────────────────────────────────────────

#: What Java's HttpClient sends unless it is told to use HTTP/1.1, and what curl sends with --http2.
JAVA = ("Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA")
OFFERS = {
    "java": (*JAVA, "Upgrade: h2c", "User-Agent: Java-http-client/17.0.10"),
    "curl": ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"),
    "apache": ("Connection: Upgrade", "Upgrade: TLS/1.2, HTTP/1.1"),
    "a web socket": ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
}


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("way", ["at once", "in two packets", "in chunks"])
def test_a_webhook_with_an_offer_to_upgrade_is_accepted_with_its_body(receiver, offer, way):
    key = f"{offer}-{way}".replace(" ", "-")
    content = product(1, key=key, name="Lamp")
    length = "Transfer-Encoding: chunked" if way == "in chunks" else f"Content-Length: {len(content)}"
    sent = head(content, *OFFERS[offer], length)
    with receiver.connect() as connection:
        if way == "at once":
            connection.sendall(sent + content)
        elif way == "in chunks":
            connection.sendall(sent + in_chunks(content))
        else:
            connection.sendall(sent)
            time.sleep(0.05)
            connection.sendall(content)
        status, answer = read(connection)
        assert (status, json.loads(answer)["status"]) == (200, "accepted")
        # The connection stays an HTTP/1.1 connection, and takes another request.
        connection.sendall(head(content, f"Content-Length: {len(content)}") + content)
        assert json.loads(read(connection)[1])["status"] == "duplicate"
    assert receiver.kept(content) == ["processed"]


FROM_JAVA = product(2, key="from-java", name="Lamp")


def java(receiver: Receiver, folder: Path) -> list[Posted]:
    """Post with the JDK's client three times on one connection, the last time after a pause."""
    find("javac")
    (folder / "body").write_bytes(FROM_JAVA)
    (name, value), *_ = signed("iimmpact", FROM_JAVA).items()
    run("javac", "-d", folder, HERE / "Post.java")
    done = run("java", "-cp", folder, "Post", receiver.url(), name, value, folder / "body", str(PAUSE))
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_webhook_of_java_s_http_client_is_accepted(receiver, after_the_pause):
    assert [each["status"] for each in after_the_pause(java)] == ["accepted", "duplicate", "duplicate"]
    assert receiver.kept(FROM_JAVA) == ["processed"]


@pytest.mark.parametrize("way", [(), ("--header", "Transfer-Encoding: chunked"), ("--header", "Expect: 100-continue")])
def test_curl_s_offer_of_http_2_is_accepted_as_a_webhook(receiver, tmp_path, way):
    key = f"from-curl-{len(way)}-{way[-1][:6] if way else ''}"
    content = product(3, key=key, name="Lamp")
    (tmp_path / "body").write_bytes(content)
    headers = [word for name, value in signed("iimmpact", content).items() for word in ("--header", f"{name}: {value}")]
    body = ["--data-binary", f"@{tmp_path / 'body'}"]
    done = run("curl", "--silent", "--show-error", "--http2", *headers, *way, *body, receiver.url())
    assert json.loads(done.stdout)["status"] == "accepted"
    assert receiver.kept(content) == ["processed"]


# ── idle connections ──────────────────────────────────────────────────────────────────────────────────────────


def idle(receiver: Receiver, _: Path) -> list[Posted]:
    """Post, and after a pause post again on the same connection and on one that was opened before the pause."""
    content = product(4, key="rested", name="Lamp")
    sent = head(content, f"Content-Length: {len(content)}") + content
    seen = []
    with receiver.connect() as used, receiver.connect() as ahead:
        for connection, pause in ((used, 0.0), (used, PAUSE), (ahead, 0.0)):
            time.sleep(pause)
            connection.sendall(sent)
            seen.append(json.loads(read(connection)[1]))
    return seen


def test_an_idle_connection_takes_requests_after_seconds_whether_or_not_it_was_used_before(after_the_pause):
    assert [each["status"] for each in after_the_pause(idle)] == ["accepted", "duplicate", "duplicate"]


def test_many_idle_connections_of_a_balancer_can_be_used_in_any_order(receiver):
    content = product(6, key="many", name="Lamp")
    sent = head(content, f"Content-Length: {len(content)}") + content
    connections = [receiver.connect() for _ in range(20)]
    try:
        for each in [*connections, *reversed(connections)]:
            each.sendall(sent)
            assert read(each)[0] == 200
    finally:
        for each in connections:
            each.close()


def test_health_checks_that_only_connect_do_no_harm(receiver):
    for _ in range(20):
        receiver.connect().close()
    assert receiver.client.get("/healthz").status_code == 200


FROM_NODE = product(7, key="from-node", name="Lamp")


def node(receiver: Receiver, folder: Path) -> list[Posted]:
    """Post with Node's clients, each at once and after a pause."""
    (folder / "body").write_bytes(FROM_NODE)
    (name, value), *_ = signed("iimmpact", FROM_NODE).items()
    done = run("node", HERE / "post.mjs", receiver.url(), name, value, folder / "body", str(PAUSE))
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_node_s_clients_are_accepted_after_a_pause_on_the_same_connection(receiver, after_the_pause):
    said = after_the_pause(node)
    assert [each["status"] for each in said] == ["accepted", "duplicate", "duplicate", "duplicate"]
    assert [each["again"] for each in said if each["by"] == "agent"] == [False, True]
    assert receiver.kept(FROM_NODE) == ["processed"]


#: The senders that pause between two posts.
PAUSING: tuple[Sender, ...] = (java, idle, node)
