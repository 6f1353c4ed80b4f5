"""The running system for tests: the whole application behind a real socket, on either database."""

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
from longer_limits import LAST_STEP
from senders import SOURCES, body, sent
from short_pauses import shorten_pauses_of_uvicorn
from sqlalchemy import text
from templates import copy_tables_to
from waiting import TIMEOUT, wait_until

from receiver.api.tokens import Scope, Tokens
from receiver.database.database import Database
from receiver.ingest.fast_path import FastPathProtocol
from receiver.server.app import App
from receiver.server.registry import Reading
from receiver.server.runtime import Runtime
from receiver.settings.settings import Settings

SECRET_KEY = "secret-key-of-these-tests-only"

shorten_pauses_of_uvicorn()

Headers = Mapping[str, str] | Sequence[tuple[bytes, bytes]]


class OneWrite(httpx.BaseTransport):
    """Sends head and body in one write, as most senders do. The standard transport of httpx writes them separately."""

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
    """A server under test, with clients of its HTTP interfaces."""

    app: App
    server: uvicorn.Server
    port: int
    client: httpx.Client
    #: The client that posts webhooks.
    sender: httpx.Client
    #: The server's database, through connections of the test.
    beside: Database

    def post(self, source: str, content: Any, headers: Headers = ()) -> httpx.Response:
        """Post exactly these bytes with these headers."""
        client = self.sender if isinstance(content, bytes) else self.client
        return client.post(f"/hooks/{source}", content=content, headers=list(_pairs(headers)))

    def send(self, source: str, content: bytes | None = None, *, secret: str | None = None, **parts: Any) -> str:
        """Send an authentic webhook, and return the id of its delivery."""
        answer = self.post(source, *sent(source, body(source, **parts) if content is None else content, secret))
        assert answer.status_code == 200, answer.text
        return str(answer.json()["delivery"])

    def get(self, path: str, *, scope: Scope | None = Scope.READ, method: str = "GET") -> httpx.Response:
        headers = {} if scope is None else {"Authorization": f"Bearer {token(scope)}"}
        return self.client.request(method, path, headers=headers)

    def delivery(self, delivery_id: str) -> dict[str, Any]:
        """Return one delivery as the API shows it."""
        answer = self.get(f"/api/v1/deliveries/{delivery_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def ended(self, delivery_id: str) -> dict[str, Any]:
        """Wait until the server's own worker has ended the delivery, and return it."""

        def look() -> dict[str, Any] | None:
            found = self.delivery(delivery_id)
            return found if found["ended_at"] else None

        return dict(wait_until(look, f"the end of {delivery_id}"))

    def note_reading(self, reading: Reading | None) -> None:
        """Register the server with this result of reading its settings; with None, as a process that cannot reload."""
        # Written where the heartbeats take it from, so that none of them undoes it.
        self.app._registration._settings = None if reading is None else reading.as_json()
        self.app._registration.heartbeat()

    def count(self, table: str = "deliveries", where: str = "true") -> int:
        """Count rows through a separate connection to the database."""
        with self.beside.read() as connection:
            return int(connection.execute(text(f"SELECT count(*) FROM {table} WHERE {where}")).scalar_one())

    def metric(self, line: str) -> float:
        """Return the value of one line of /metrics, or 0 if the line is missing."""
        lines = self.client.get("/metrics").text.splitlines()
        return next((float(each.rpartition(" ")[2]) for each in lines if each.startswith(line + " ")), 0.0)

    def limit(self, **limits: float) -> None:
        """Give limits of time other values from now on, also for open connections: what went before had its time."""
        for name, seconds in limits.items():
            setattr(self.app.connections.limits, name, seconds)

    def connections(self) -> list[Any]:
        """List the open connections at this moment; the server's thread adds and removes some meanwhile."""
        return list(self.server.server_state.connections)

    def at_work(self) -> list[Any]:
        """List the connections that are in the middle of a request."""
        # A connection that is just being lost has no cycle any more, so it is read once.
        cycles = ((each, each.cycle) for each in self.connections())
        return [each for each, cycle in cycles if cycle is not None and not cycle.response_complete]

    def connect(self) -> socket.socket:
        """Open a bare connection, to send what no HTTP client would send."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT)


def token(scope: Scope, *, keys: Sequence[str] = (SECRET_KEY,), lifetime: timedelta = timedelta(hours=1)) -> str:
    return Tokens(list(keys)).issue(scope, now=datetime.now(UTC), lifetime=lifetime)


def read_answer(connection: socket.socket) -> tuple[int, bytes]:
    """Read an answer that ends with the connection; return its status and body."""
    answer = b""
    while more := connection.recv(65_536):
        answer += more
    head, _, content = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), content


def request_head(source: str, *lines: bytes) -> bytes:
    """Make the head of a POST request, with its empty line."""
    return b"\r\n".join([f"POST /hooks/{source} HTTP/1.1".encode(), b"Host: receiver", *lines, b"", b""])


def whole(source: str, content: bytes) -> bytes:
    """Make a request with a valid signature as one string of bytes."""
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

    With `one_write`, webhooks are posted in one write each. uvicorn gets `http` and `root_path`. `around` wraps the
    application before it is served. `port` is a fixed port, or 0 for any free one.
    """
    content: dict[str, Any] = {"database_url": database_url, "secret_key": SECRET_KEY, "sources": SOURCES}
    runtime = Runtime(Settings(**content | settings))
    copy_tables_to(database_url)
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
            timeout_graceful_shutdown=int(LAST_STEP),
            # uvicorn's own protocol would close an idle connection just as a client of the test uses it again.
            timeout_keep_alive=int(10 * TIMEOUT),
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
            # `hookmirror serve` does the same at the first signal.
            app.end_streams()
            server.should_exit = True
            thread.join(TIMEOUT)
            assert not thread.is_alive(), "the server did not stop"


def _pairs(headers: Headers) -> Iterator[tuple[bytes, bytes]]:
    for name, value in headers.items() if isinstance(headers, Mapping) else headers:
        yield (name.encode(), value.encode()) if isinstance(name, str) else (name, value)


def error(answer: httpx.Response) -> tuple[int, str]:
    """Check that an answer has the form of the contract's errors; return its status and code."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.json().keys() == {"error", "message"}
    assert answer.json()["message"].endswith((".", "`."))
    return answer.status_code, answer.json()["error"]
