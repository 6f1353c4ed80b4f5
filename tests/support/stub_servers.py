"""HTTP servers on loopback that answer by a few lines of a test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Stub(BaseHTTPRequestHandler):
    """Answers requests by `get` and `post`, which a test defines. Writes no log."""

    def get(self) -> None:
        self.answer(status=501)

    def post(self) -> None:
        self.answer(status=501)

    def body(self) -> bytes:
        """Read the body of the request."""
        return self.rfile.read(int(self.headers["Content-Length"]))

    def answer(self, content: bytes = b"", *, status: int = 200, content_type: str | None = None) -> None:
        self.send_response(status)
        if content_type is not None:
            self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        self.get()

    def do_POST(self) -> None:
        self.post()

    def log_message(self, *_: object) -> None:
        """Write no log."""


@contextmanager
def answering(handler: type[Stub]) -> Iterator[str]:
    """Answer requests by this stub until the end of the block; give the address of the server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
