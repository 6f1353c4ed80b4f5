"""A stand-in on loopback for Stripe's API, which some mirrors ask while they work on a webhook.

It answers at once, unlike the real one, from a thread of this process.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import uvloop

from benchmarks.peers.stripe_events import ACCOUNT, product
from benchmarks.senders import PRODUCTS

#: The path of a product, or of the list of its features, which has none.
_PRODUCT = re.compile(r"/v1/products/prod_(\d{5})(/features)?")

_ACCOUNT = {"id": ACCOUNT, "object": "account", "country": "DE", "default_currency": "eur", "type": "standard"}


class StripeApi:
    """Knows the account, and each product as in the newest event that was sent."""

    def __init__(self) -> None:
        #: The number of the newest event.
        self.newest = 0
        #: The number of questions, and the paths that it does not know.
        self.asked = 0
        self.unknown: set[str] = set()
        self.url = ""

    def answer(self, path: str) -> tuple[int, Any]:
        """Return the status and the document for a path without its query."""
        self.asked += 1
        if path in ("/v1/account", f"/v1/accounts/{ACCOUNT}"):
            return 200, _ACCOUNT
        if found := _PRODUCT.fullmatch(path):
            number = int(found[1])
            if found[2]:
                return 200, {"object": "list", "data": [], "has_more": False, "url": path}
            return 200, product(self.newest - (self.newest - number) % PRODUCTS)
        self.unknown.add(path)
        return 404, {"error": {"type": "invalid_request_error", "message": f"The benchmark has no {path}."}}


class _Connection(asyncio.Protocol):
    """Answers GET requests, one after the other."""

    def __init__(self, api: StripeApi) -> None:
        self._api, self._read = api, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._read += data
        while b"\r\n\r\n" in self._read:
            head, _, self._read = self._read.partition(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].partition(b"?")[0].decode()
            status, document = self._api.answer(path)
            body = json.dumps(document).encode()
            first = b"HTTP/1.1 %d -\r\nContent-Type: application/json\r\n" % status
            self._transport.write(first + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))


@contextmanager
def answering() -> Iterator[StripeApi]:
    """Run the stand-in."""
    api, loop, listening = StripeApi(), uvloop.new_event_loop(), Future[int]()
    thread = threading.Thread(target=_serve, args=(loop, api, listening), daemon=True)
    thread.start()
    api.url = f"http://127.0.0.1:{listening.result(10)}"
    try:
        yield api
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


def _serve(loop: asyncio.AbstractEventLoop, api: StripeApi, listening: Future[int]) -> None:
    server = loop.run_until_complete(loop.create_server(lambda: _Connection(api), "127.0.0.1", 0))
    listening.set_result(server.sockets[0].getsockname()[1])
    loop.run_forever()
    server.close()
