"""HTTP for webhooks that come whole: admitted straight from the parser, and answered with one write.

To make a scope, a task and a coroutine of a request, and messages of its answer, costs more than to verify and read it
(docs/decisions/0013). Most webhooks need none of that: head and body are there at once, and what is left is to wait for
the commit. Everything else goes uvicorn's own way, through the application: other addresses and methods, bodies that
come in pieces or not at all, requests in a pipeline, senders that do not read their answers.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from receiver.endpoint import Endpoint, Header, Reply, Whole, framed


class HookProtocol(HttpToolsProtocol):
    """One connection to a server whose application is an `App`."""

    def __init__(self, config: Config, **of_uvicorn: Any) -> None:
        super().__init__(config, **of_uvicorn)
        self._endpoint: Endpoint = config.app.endpoint  # type: ignore[union-attr]
        #: The source of a webhook that may come whole, whether the connection carries more behind it, and its body so
        #: far; the source is None if uvicorn has the request.
        self._source: str | None = None
        self._stays = True
        self._parts: list[bytes] = []
        #: By the loop's clock, when the last whole webhook was answered; None while something is under way.
        self._idle_since: float | None = None
        self._idle_timer: asyncio.TimerHandle | None = None

    # ── what the connection and its parser tell ───────────────────────────────────────────────────────────────

    def data_received(self, data: bytes) -> None:
        self._idle_since = None
        super().data_received(data)
        if self._source is not None:
            # The rest may take its time, and the application knows how to wait for it.
            self._leave_to_uvicorn()

    def on_message_begin(self) -> None:
        self.url, self.headers, self.expect_100_continue = b"", [], False

    def on_headers_complete(self) -> None:
        self._source = self._source_of_a_webhook()
        if self._source is None:
            self._begin_in_uvicorn()
        else:
            # Not later: lines behind a chunked body are no part of the head.
            self._stays = self.parser.should_keep_alive() and self.parser.get_http_version() != "1.0"

    def on_body(self, body: bytes) -> None:
        if self._source is None:
            super().on_body(body)
        else:
            self._parts.append(body)

    def on_message_complete(self) -> None:
        if self._source is None:
            super().on_message_complete()
        elif not self._take(self._source):
            self._leave_to_uvicorn()
            super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        # The two would keep each other until the garbage collector comes by.
        self.cycle = None  # type: ignore[assignment]

    # ── uvicorn's way ─────────────────────────────────────────────────────────────────────────────────────────

    def _begin_in_uvicorn(self) -> None:
        """Make up for what uvicorn does at the beginning of a request and when its head is there."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.headers, self.expect_100_continue = url, headers, expects
        self.scope["headers"] = headers
        super().on_headers_complete()

    def _leave_to_uvicorn(self) -> None:
        parts, self._source, self._parts = self._parts, None, []
        self._begin_in_uvicorn()
        for part in parts:
            super().on_body(part)

    # ── whole webhooks ────────────────────────────────────────────────────────────────────────────────────────

    def _source_of_a_webhook(self) -> str | None:
        """The source that a request is for whose head is there, if it may come whole."""
        source = self._endpoint.source_at(self.url)
        if (
            source is None
            or self.parser.get_method() != b"POST"
            or (self.cycle is not None and not self.cycle.response_complete)
            or self.expect_100_continue
            or self.flow.write_paused
        ):
            return None
        return source

    def _take(self, source: str) -> bool:
        """Have the webhook admitted, to be answered later; False if the endpoint wants to see the request."""
        body = b"".join(self._parts)
        webhook = _WholeWebhook(self, self._endpoint, source, len(body), keep_alive=self._stays)
        if not self._endpoint.take(webhook, self.headers, body):
            return False
        self._source, self._parts = None, []
        self.cycle = webhook  # type: ignore[assignment]
        return True

    def go_on(self) -> None:
        """Go on with what waits behind a whole webhook; close the connection when nothing has come for a while.

        One timer that looks again, where uvicorn's own would be made and cancelled for every request.
        """
        if self.pipeline:
            self.on_response_complete()
            return
        self.server_state.total_requests += 1
        self._idle_since = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._look)

    def _look(self) -> None:
        self._idle_timer = None
        if self._idle_since is None:
            return
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._idle_timer = self.loop.call_later(left, self._look)
        else:
            self.timeout_keep_alive_handler()


class _WholeWebhook(Whole):
    """A whole webhook on its connection; and what uvicorn calls a cycle, as far as it looks at one."""

    __slots__ = ("_protocol", "disconnected", "keep_alive", "message_event", "response_complete")

    def __init__(self, protocol: HookProtocol, endpoint: Endpoint, name: str, size: int, *, keep_alive: bool) -> None:
        super().__init__(endpoint, name, size)
        self._protocol = protocol
        #: Whether the connection carries more requests; the server takes it back when it stops.
        self.keep_alive = keep_alive
        self.response_complete = False
        self.disconnected = False
        self.message_event = _NOBODY

    def reply(self, reply: Reply) -> None:
        self.response_complete = True
        protocol = self._protocol
        if self.disconnected:
            return
        closes = reply.closes or not self.keep_alive
        headers = (*protocol.server_state.default_headers, *reply.headers)
        protocol.transport.write(_head(reply.status, headers, len(reply.body), closes=closes) + reply.body)
        if closes:
            protocol.transport.close()
            protocol.on_response_complete()
        else:
            protocol.go_on()

    def hang_up(self) -> None:
        self.response_complete = True
        self._protocol.transport.close()


class _Nobody:
    """Stands where uvicorn keeps the event that a coroutine waits for: here none does."""

    def set(self) -> None:
        pass


_NOBODY = _Nobody()


@lru_cache(maxsize=64)
def _head(status: int, headers: tuple[Header, ...], length: int, *, closes: bool) -> bytes:
    """Everything before the body. Nearly all answers of a second have the same."""
    lines = [b"%b: %b\r\n" % header for header in framed(headers, length, closes=closes)]
    return b"".join([STATUS_LINE[status], *lines, b"\r\n"])
