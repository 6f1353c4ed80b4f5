"""HTTP for webhooks that come whole: admitted straight from the parser, and answered with one write.

To make a scope, a task and a coroutine of a request, and messages of its answer, costs more than to verify and read it
(docs/decisions/0013). Most webhooks need none of that: head and body are there at once, and what is left is to wait for
the commit. Everything else goes uvicorn's own way, through the application: other addresses and methods, bodies that
come in pieces or not at all, requests in a pipeline, senders that do not read their answers.
"""

from __future__ import annotations

from typing import Any

from uvicorn import Config

from receiver.ingest.bounded import BoundedProtocol
from receiver.ingest.endpoint import Endpoint, FastPathRequest, Reply


class FastPathProtocol(BoundedProtocol):
    """One connection to a server whose application is an `App`."""

    def __init__(self, config: Config, **of_uvicorn: Any) -> None:
        super().__init__(config, **of_uvicorn)
        self._endpoint: Endpoint = config.app.endpoint  # type: ignore[union-attr]
        self._root = self.root_path.rstrip("/").encode()
        #: The source of a webhook that may come whole, whether the connection carries more behind it, and its body so
        #: far; the source is None if uvicorn has the request.
        self._source: str | None = None
        self._stays = True
        self._parts: list[bytes] = []

    # ── what the connection and its parser tell ───────────────────────────────────────────────────────────────

    def _hold(self, size: int) -> None:
        if self._source is not None:
            # The rest may take its time, and the application knows how to wait for it.
            self._leave_to_uvicorn()
        else:
            super()._hold(size)

    def _begin(self) -> None:
        if self._root:
            self._cut_root_off()
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
            self._unframed = 0
            self._parts.append(body)

    def on_message_complete(self) -> None:
        if self._source is None:
            super().on_message_complete()
        elif self._take(self._source):
            self._unframed = 0
            self._in_body = False
        else:
            self._leave_to_uvicorn()
            super().on_message_complete()

    # ── uvicorn's way ─────────────────────────────────────────────────────────────────────────────────────────

    def _leave_to_uvicorn(self) -> None:
        parts, self._source, self._parts = self._parts, None, []
        self._begin_in_uvicorn()
        for part in parts:
            super().on_body(part)

    def _read_no_more(self, last_word: Reply | None) -> bool:
        if self._source is not None:
            # Nobody has heard of the request yet.
            self._source, self._parts, self._in_body = None, [], False
        return super()._read_no_more(last_word)

    def _cut_root_off(self) -> None:
        """Some proxies pass on the path that they serve us under, and uvicorn expects that they cut it off."""
        if self.url.startswith(self._root + b"/") and self._endpoint.source_at(self.url) is None:
            self.url = self.url[len(self._root) :]

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
        self.cycle = self._answering = webhook  # type: ignore[assignment]
        return True

    def go_on(self) -> None:
        """Go on with what waits behind a whole webhook."""
        if self.pipeline or self._is_deaf:
            self.on_response_complete()
            return
        self.server_state.total_requests += 1
        self._idle_since = self.loop.time()


class _WholeWebhook(FastPathRequest):
    """A whole webhook on its connection; and what uvicorn calls a cycle, as far as it looks at one."""

    __slots__ = ("_protocol", "disconnected", "keep_alive", "message_event", "response_complete")

    def __init__(
        self, protocol: FastPathProtocol, endpoint: Endpoint, name: str, size: int, *, keep_alive: bool
    ) -> None:
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
        protocol.write(reply, closes=closes)
        if closes:
            protocol.end()
            protocol.on_response_complete()
        else:
            protocol.go_on()

    def hang_up(self) -> None:
        self.response_complete = True
        self._protocol.end()


class _Nobody:
    """Stands where uvicorn keeps the event that a coroutine waits for: here none does."""

    def set(self) -> None:
        pass


_NOBODY = _Nobody()
