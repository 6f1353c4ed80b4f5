"""`/healthz` and `/metrics` of a worker that runs alone, on a port of its own, over plain HTTP."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, NamedTuple

import structlog

from receiver.api.exposition import MEDIA_TYPE
from receiver.codec import encode
from receiver.logs.repeats import Repeats
from receiver.schemas import Alive, Error, Shape

log = Repeats(structlog.get_logger(__name__))

#: Seconds that a client may take to send its request.
HEALTH_TIMEOUT = 10.0

#: The most clients at a time, so that those who never finish a request take no files from the worker. One more ends the
#: one that has been there for longest without a request; if all have sent one, the first of them.
MOST_CLIENTS = 32


class NotAlive(Shape, frozen=True):
    status: Literal["not alive"]
    reason: str


class HealthAnswer(NamedTuple):
    status: int
    media_type: str
    content: bytes


def vital_signs(trouble: Callable[[], str | None]) -> HealthAnswer:
    """Answer /healthz; `trouble` returns a description of a failure, or None."""
    reason = trouble()
    if reason is None:
        return HealthAnswer(200, "application/json", encode(Alive("alive")))
    return HealthAnswer(503, "application/json", encode(NotAlive("not alive", reason)))


@contextmanager
def vitals(
    listening: socket.socket, *, trouble: Callable[[], str | None], metrics: Callable[[], bytes]
) -> Iterator[None]:
    """Answers requests during the block, on its own threads, so that a busy worker answers as fast as an idle one."""
    answers = {
        "/healthz": lambda: vital_signs(trouble),
        "/metrics": lambda: HealthAnswer(200, MEDIA_TYPE, metrics()),
    }
    with _Server(listening, answers) as server:
        threading.Thread(target=server.serve_forever, name="vitals", daemon=True).start()
        try:
            yield
        finally:
            # Also after an error: the thread would otherwise wait at a closed socket, again and again.
            server.shutdown()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, listening: socket.socket, answers: Mapping[str, Callable[[], HealthAnswer]]) -> None:
        super().__init__(listening.getsockname()[:2], _Request, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.answers = answers
        #: The open connections, the oldest first, each with whether its request has been read.
        self._clients: dict[Any, bool] = {}
        self._lock = threading.Lock()
        self.server_activate()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            while len(self._clients) >= MOST_CLIENTS:
                # The first of those whose value is False, if there is one.
                ended = min(self._clients, key=self._clients.__getitem__)
                del self._clients[ended]
                # It may have ended by itself.
                with suppress(OSError):
                    ended.shutdown(socket.SHUT_RDWR)
            self._clients[request] = False
        super().process_request(request, client_address)

    def note_request(self, request: Any) -> None:
        """Note that this client has sent its request, so that those that have not are ended before it."""
        with self._lock:
            if request in self._clients:
                self._clients[request] = True

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._clients.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, *_: object) -> None:
        """Ignore clients that have gone, log our own errors, and continue with the next request."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            log.exception("cannot answer a request for health or metrics", about={})


class _Request(BaseHTTPRequestHandler):
    server: _Server
    timeout = HEALTH_TIMEOUT

    def do_GET(self) -> None:
        self.server.note_request(self.connection)
        answer = self.server.answers.get(self.path.partition("?")[0], _nothing)()
        self.send_response_only(answer.status)
        self.send_header("Content-Type", answer.media_type)
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, *_: object) -> None:
        """Log nothing: a client that asks every few seconds would fill the log."""


def _nothing() -> HealthAnswer:
    message = "A worker answers /healthz and /metrics alone."
    return HealthAnswer(404, "application/json", encode(Error("not_found", message)))
