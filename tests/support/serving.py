"""The running system for tests: the whole application behind a real socket, on a real database of either kind."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPResponse
from typing import Any

import httpx
import uvicorn
from senders import SOURCES, body, sent
from sqlalchemy import text
from waiting import TIMEOUT, wait_until

from receiver.api.tokens import Scope, Tokens
from receiver.database.database import Database
from receiver.ingest.fast_path import FastPathProtocol
from receiver.server.app import App
from receiver.server.runtime import Runtime
from receiver.settings.settings import Settings

SECRET_KEY = "secret-key-of-these-tests-only"

Headers = Mapping[str, str] | Sequence[tuple[bytes, bytes]]


class OneWrite(httpx.BaseTransport):
    """Sends head and body in one write, as most senders do; httpx's own transport writes them apart."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        lines = [b"%b %b HTTP/1.1" % (request.method.encode(), request.url.raw_path)]
        lines += [b"%b: %b" % header for header in request.headers.raw]
        with socket.create_connection((request.url.host, request.url.port), timeout=TIMEOUT) as connection:
            connection.sendall(b"\r\n".join([*lines, b"", request.read()]))
            answer = HTTPResponse(connection, method=request.method)
            answer.begin()
            return httpx.Response(answer.status, headers=answer.getheaders(), content=answer.read())


@dataclass
class Served:
    """A server under test, and a client of its HTTP interfaces."""

    app: App
    server: uvicorn.Server
    port: int
    client: httpx.Client
    #: The client that posts webhooks.
    sender: httpx.Client
    #: The server's database, through connections of our own.
    beside: Database

    def post(self, source: str, content: Any, headers: Headers = ()) -> httpx.Response:
        """Post these exact bytes with these headers."""
        client = self.sender if isinstance(content, bytes) else self.client
        return client.post(f"/hooks/{source}", content=content, headers=list(_pairs(headers)))

    def send(self, source: str, content: bytes | None = None, *, secret: str | None = None, **parts: Any) -> str:
        """Send something authentic; returns the id under which it is kept."""
        answer = self.post(source, *sent(source, body(source, **parts) if content is None else content, secret))
        assert answer.status_code == 200, answer.text
        return str(answer.json()["delivery"])

    def get(self, path: str, *, scope: Scope | None = Scope.READ, method: str = "GET") -> httpx.Response:
        headers = {} if scope is None else {"Authorization": f"Bearer {token(scope)}"}
        return self.client.request(method, path, headers=headers)

    def delivery(self, delivery_id: str) -> dict[str, Any]:
        """One delivery as the API shows it."""
        answer = self.get(f"/api/v1/deliveries/{delivery_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def ended(self, delivery_id: str) -> dict[str, Any]:
        """The delivery, once the server's own worker has brought it to an end."""

        def look() -> dict[str, Any] | None:
            found = self.delivery(delivery_id)
            return found if found["ended_at"] else None

        return dict(wait_until(look, f"the end of {delivery_id}"))

    def count(self, table: str = "deliveries", where: str = "true") -> int:
        """Rows that a program beside the server sees in the database."""
        with self.beside.read() as connection:
            return int(connection.execute(text(f"SELECT count(*) FROM {table} WHERE {where}")).scalar_one())

    def metric(self, line: str) -> float:
        """The value of one line of /metrics; 0 while it is not there."""
        lines = self.client.get("/metrics").text.splitlines()
        return next((float(each.rpartition(" ")[2]) for each in lines if each.startswith(line + " ")), 0.0)

    def connect(self) -> socket.socket:
        """A bare connection, for what no HTTP client would send."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT)


def token(scope: Scope, *, keys: Sequence[str] = (SECRET_KEY,), lifetime: timedelta = timedelta(hours=1)) -> str:
    return Tokens(list(keys)).issue(scope, now=datetime.now(UTC), lifetime=lifetime)


def read_answer(connection: socket.socket) -> tuple[int, bytes]:
    """Status and body of the answer that ends with the connection."""
    answer = b""
    while more := connection.recv(65_536):
        answer += more
    head, _, content = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), content


def request_head(source: str, *lines: bytes) -> bytes:
    """The head of a POST up to its empty line."""
    return b"\r\n".join([f"POST /hooks/{source} HTTP/1.1".encode(), b"Host: receiver", *lines, b"", b""])


def whole(source: str, content: bytes) -> bytes:
    """A request with its right signature, as one string of bytes."""
    content, headers = sent(source, content)
    signed = [f"{name}: {value}".encode() for name, value in headers.items()]
    return request_head(source, *signed, b"Content-Length: %d" % len(content)) + content


@contextmanager
def serving(
    database_url: str,
    *,
    with_worker: bool = False,
    one_write: bool = False,
    http: type[asyncio.Protocol] | str = FastPathProtocol,
    root_path: str = "",
    around: Callable[[App], Any] = lambda app: app,
    port: int = 0,
    **settings: Any,
) -> Iterator[Served]:
    """Serve until the end of the block. `settings` are those of the settings file.

    With `one_write`, webhooks are posted in one write each. `http` and `root_path` are what uvicorn calls so; `around`
    makes the application that is served. `port` is one that is known beforehand; 0 for any.
    """
    content: dict[str, Any] = {"database_url": database_url, "secret_key": SECRET_KEY, "sources": SOURCES}
    runtime = Runtime(Settings(**content | settings))
    runtime.schema.upgrade()
    app = App(runtime, with_worker=with_worker)
    server = uvicorn.Server(
        uvicorn.Config(
            around(app),
            root_path=root_path,
            http=http,
            ws="none",
            log_config=None,
            access_log=False,
            lifespan="on",
            timeout_graceful_shutdown=5,
        )
    )
    with socket.create_server(("127.0.0.1", port)) as listening:
        port = listening.getsockname()[1]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="server")
        thread.start()
        try:
            wait_until(lambda: server.started or not thread.is_alive(), "the server's start")
            assert server.started
            with (
                httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT) as client,
                httpx.Client(base_url=client.base_url, transport=OneWrite()) as one_by_one,
                closing(Database(database_url)) as beside,
            ):
                yield Served(app, server, port, client, one_by_one if one_write else client, beside)
        finally:
            # As `hookmirror serve` does with the first signal.
            app.end_streams()
            server.should_exit = True
            thread.join(TIMEOUT)
            assert not thread.is_alive(), "the server did not stop"


def _pairs(headers: Headers) -> Iterator[tuple[bytes, bytes]]:
    for name, value in headers.items() if isinstance(headers, Mapping) else headers:
        yield (name.encode(), value.encode()) if isinstance(name, str) else (name, value)


def error(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of an answer in the contract's error shape."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.json().keys() == {"error", "message"}
    assert answer.json()["message"].endswith((".", "`."))
    return answer.status_code, answer.json()["error"]
