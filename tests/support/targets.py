"""Endpoints that receive changes over real HTTP, each answering as a test says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from waiting import TIMEOUT


class Posted(NamedTuple):
    """One received request."""

    content: bytes
    headers: dict[str, str]

    @property
    def change(self) -> dict[str, Any]:
        return dict(json.loads(self.content))


class Reply(NamedTuple):
    """An answer.

    With `hangs` it is never sent, with `cuts` its end is missing, with `drips` bytes follow without end.
    """

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    content: bytes = b""
    hangs: bool = False
    cuts: bool = False
    drips: bool = False


OK = Reply()


@dataclass
class Endpoint:
    """A running endpoint. `reply` is called with the request and the number of earlier requests with the same key."""

    reply: Callable[[Posted, int], Reply] = lambda posted, before: OK
    posts: list[Posted] = field(default_factory=list)
    accepted: list[Posted] = field(default_factory=list)
    port: int = 0
    released: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/changes"

    def ids(self) -> list[str]:
        """Return the external ids of the accepted changes, in order of acceptance."""
        return [each.change["external_id"] for each in self.accepted]

    def answer(self, posted: Posted) -> Reply:
        with self.lock:
            before = sum(each.headers["idempotency-key"] == posted.headers["idempotency-key"] for each in self.posts)
            self.posts.append(posted)
            reply = self.reply(posted, before)
            if 200 <= reply.status < 300 and not (reply.hangs or reply.cuts or reply.drips):
                self.accepted.append(posted)
            return reply


@contextmanager
def receiving(reply: Callable[[Posted, int], Reply] | None = None, *, port: int = 0) -> Iterator[Endpoint]:
    """Run an endpoint until the end of the block."""
    endpoint = Endpoint() if reply is None else Endpoint(reply)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = TIMEOUT

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if len(content) < int(self.headers["Content-Length"]):
                # The sender was killed meanwhile.
                return
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = endpoint.answer(Posted(content, headers))
            if reply.hangs:
                endpoint.released.wait()
                self.close_connection = True
                return
            self.send_response_only(reply.status)
            for name, value in reply.headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.content) + (1_000 if reply.cuts or reply.drips else 0)))
            self.end_headers()
            self.wfile.write(reply.content)
            if reply.drips:
                while not endpoint.released.wait(0.05):
                    self.wfile.write(b"x")
                    self.wfile.flush()
            if reply.cuts or reply.drips:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        allow_reuse_address = True

        def handle_error(self, *_: object) -> None:
            """Ignore errors, because these tests kill clients."""

    with Server(("127.0.0.1", port), Handler) as server:
        endpoint.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield endpoint
        finally:
            endpoint.released.set()
            server.shutdown()
            thread.join(10)
