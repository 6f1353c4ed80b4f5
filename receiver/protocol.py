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

from receiver.endpoint import CONTENT_TYPE, PREFIX, Endpoint, Header, Reply, Whole

_PREFIX = PREFIX.encode()


class HookProtocol(HttpToolsProtocol):
    """One connection to a server whose application is an `App`."""

    def __init__(self, config: Config, *of_uvicorn: Any, **named: Any) -> None:
        super().__init__(config, *of_uvicorn, **named)
        self._endpoint: Endpoint = config.app.endpoint  # type: ignore[union-attr]
        #: The body so far of a webhook that may come whole; None if uvicorn has the request.
        self._body: list[bytes] | None = None
        #: By the loop's clock, when the last whole webhook was answered; None while something is under way.
        self._idle_since: float | None = None
        self._idle_timer: asyncio.TimerHandle | None = None

    # ── what the connection and its parser tell ───────────────────────────────────────────────────────────────

    def data_received(self, data: bytes) -> None:
        self._idle_since = None
        super().data_received(data)
        if self._body is not None:
            # The rest may take its time, and the application knows how to wait for it.
            self._leave_to_uvicorn()

    def on_message_begin(self) -> None:
        self.url, self.headers, self.expect_100_continue = b"", [], False

    def on_headers_complete(self) -> None:
        if self._may_come_whole():
            self._body = []
        else:
            self._begin_in_uvicorn()

    def on_body(self, body: bytes) -> None:
        if self._body is None:
            super().on_body(body)
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._body is None:
            super().on_message_complete()
        elif not self._take(b"".join(self._body)):
            self._leave_to_uvicorn()
            super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._idle_timer is not None:
            self._idle_timer.cancel()

    # ── uvicorn's way ─────────────────────────────────────────────────────────────────────────────────────────

    def _begin_in_uvicorn(self) -> None:
        """Make up for what uvicorn does at the beginning of a request and when its head is there."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.headers, self.expect_100_continue = url, headers, expects
        self.scope["headers"] = headers
        super().on_headers_complete()

    def _leave_to_uvicorn(self) -> None:
        parts, self._body = self._body or [], None
        if self.transport.is_closing():
            return
        self._begin_in_uvicorn()
        for part in parts:
            super().on_body(part)

    # ── whole webhooks ────────────────────────────────────────────────────────────────────────────────────────

    def _may_come_whole(self) -> bool:
        return (
            self.url.startswith(_PREFIX)
            and self.parser.get_method() == b"POST"
            and (self.cycle is None or self.cycle.response_complete)
            and not self.expect_100_continue
            and not self.flow.write_paused
            and not self.parser.should_upgrade()
        )

    def _take(self, body: bytes) -> bool:
        """Have the webhook admitted, to be answered later; False if the endpoint wants to see the request."""
        name = self.url[len(_PREFIX) :].decode("latin-1")
        webhook = _Webhook(self, self._endpoint, name, len(body))
        if not self._endpoint.take(webhook, self.headers, body):
            return False
        self._body = None
        self.cycle = webhook  # type: ignore[assignment]
        return True

    def answered(self) -> None:
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


class _Webhook(Whole):
    """One of them, and what uvicorn calls the cycle of a request, as far as it looks at it while the answer is due."""

    __slots__ = ("_protocol", "disconnected", "keep_alive", "message_event", "response_complete")

    def __init__(self, protocol: HookProtocol, endpoint: Endpoint, name: str, size: int) -> None:
        super().__init__(endpoint, name, size)
        self._protocol = protocol
        #: Whether the connection carries more requests; the server takes it back when it stops.
        self.keep_alive = protocol.parser.should_keep_alive() and protocol.parser.get_http_version() != "1.0"
        self.response_complete = False
        self.disconnected = False
        self.message_event = _NOBODY

    def reply(self, reply: Reply) -> None:
        self.response_complete = True
        protocol = self._protocol
        if self.disconnected or protocol.transport.is_closing():
            return
        stays = self.keep_alive and not reply.closes
        headers = (*protocol.server_state.default_headers, *reply.headers)
        protocol.transport.write(_head(reply.status, len(reply.body), headers, stays=stays) + reply.body)
        if not stays:
            protocol.transport.close()
        protocol.answered()


class _Nobody:
    """Stands where uvicorn keeps the event that a coroutine waits for: here none does."""

    def set(self) -> None:
        pass


_NOBODY = _Nobody()


@lru_cache(maxsize=64)
def _head(status: int, length: int, headers: tuple[Header, ...], *, stays: bool) -> bytes:
    """Everything before a body of JSON. Nearly every answer of a second has the same."""
    lines = [*headers, (b"content-type", CONTENT_TYPE), (b"content-length", b"%d" % length)]
    if not stays:
        lines.append((b"connection", b"close"))
    return STATUS_LINE[status] + b"".join(b"%b: %b\r\n" % line for line in lines) + b"\r\n"
