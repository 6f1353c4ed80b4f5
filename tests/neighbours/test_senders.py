"""Real senders: HTTP clients whose habits differ from those of Python's.

Each program has a counterpart in bytes, which runs everywhere.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path

import httpx
import pytest
from commanding import Folder, product, signed, wait_until
from programs import find, run

HERE = Path(__file__).parent

#: Seconds between two requests on one connection: longer than many servers keep an idle connection.
PAUSE = 5.5


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


@pytest.fixture(scope="module")
def receiver(tmp_path_factory) -> Iterator[Receiver]:
    folder = Folder(tmp_path_factory.mktemp("receiver"))
    with folder.serving() as (_, client):
        yield Receiver(folder, client)


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


def test_a_webhook_of_java_s_http_client_is_accepted(receiver, tmp_path):
    find("javac")
    content = product(2, key="from-java", name="Lamp")
    (tmp_path / "body").write_bytes(content)
    (name, value), *_ = signed("iimmpact", content).items()
    run("javac", "-d", tmp_path, HERE / "Post.java")
    # The second post uses the same connection, and so does the last, after a pause.
    done = run("java", "-cp", tmp_path, "Post", receiver.url(), name, value, tmp_path / "body", str(PAUSE))
    assert [json.loads(line)["status"] for line in done.stdout.splitlines()] == ["accepted", "duplicate", "duplicate"]
    assert receiver.kept(content) == ["processed"]


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


def test_an_idle_connection_takes_requests_after_seconds_whether_or_not_it_was_used_before(receiver):
    content = product(4, key="rested", name="Lamp")
    sent = head(content, f"Content-Length: {len(content)}") + content
    with receiver.connect() as used, receiver.connect() as ahead:
        used.sendall(sent)
        assert json.loads(read(used)[1])["status"] == "accepted"
        time.sleep(PAUSE)
        for connection in (used, ahead):
            connection.sendall(sent)
            assert json.loads(read(connection)[1])["status"] == "duplicate"


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


def test_node_s_clients_are_accepted_after_a_pause_on_the_same_connection(receiver, tmp_path):
    content = product(7, key="from-node", name="Lamp")
    (tmp_path / "body").write_bytes(content)
    (name, value), *_ = signed("iimmpact", content).items()
    done = run("node", HERE / "post.mjs", receiver.url(), name, value, tmp_path / "body", str(PAUSE))
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["status"] for each in said] == ["accepted", "duplicate", "duplicate", "duplicate"]
    assert [each["again"] for each in said if each["by"] == "agent"] == [False, True]
    assert receiver.kept(content) == ["processed"]
