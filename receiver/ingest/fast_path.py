"""The fast path: webhooks that arrive in one piece are submitted straight from the parser, and answered with one write.

Creating a scope, a task and a coroutine for a request, and messages for its answer, takes longer than verifying and
reading it (docs/decisions/0013). Most webhooks need none of these, because head and body arrive together. All other
requests take uvicorn's usual way through the application: other addresses and methods, bodies that arrive in pieces,
requests in a pipeline, and senders that do not read their answers.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

import structlog
from uvicorn import Config

from receiver.dialects.replies import SenderReply
from receiver.errors import Refused, Unavailable
from receiver.inbox.arrival import Accepted
from receiver.ingest.admission import Request
from receiver.ingest.backpressure import REFUSAL_PAUSE
from receiver.ingest.bounded import BoundedProtocol
from receiver.ingest.endpoint import Endpoint
from receiver.ingest.heads import USUAL_HEAD
from receiver.ingest.replies import Reply
from receiver.logs.repeats import Repeats

log = Repeats(structlog.get_logger(__name__))


class FastPathProtocol(BoundedProtocol):
    """One connection to a server whose application is an `App`."""

    __slots__ = ("_endpoint", "_parts", "_root", "_source", "_stays")

    def __init__(self, config: Config, **of_uvicorn: Any) -> None:
        super().__init__(config, **of_uvicorn)
        self._endpoint: Endpoint = config.app.endpoint  # type: ignore[union-attr]
        self._root = self.root_path.rstrip("/").encode()
        #: The source of a webhook that may arrive in one piece (None if uvicorn handles the request), whether the
        #: connection stays open after it, and the part of its body that has arrived.
        self._source: str | None = None
        self._stays = True
        self._parts: list[bytes] = []

    # ── callbacks of the connection and the parser ────────────────────────────────────────────────────────────

    def _hold(self, size: int) -> None:
        if self._source is not None:
            # The rest may arrive later, and only the application can wait for it.
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
            # Read now, because trailers of a chunked body do not belong to the head.
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
        elif self._submitted(self._source):
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
            # The application has not received the request yet.
            self._source, self._parts, self._in_body = None, [], False
        return super()._read_no_more(last_word)

    def _cut_root_off(self) -> None:
        """Remove the root path, which some proxies forward although uvicorn expects them to remove it."""
        if self.url.startswith(self._root + b"/") and self.url not in self._endpoint.source_at:
            self.url = self.url[len(self._root) :]

    # ── whole webhooks ────────────────────────────────────────────────────────────────────────────────────────

    def _source_of_a_webhook(self) -> str | None:
        """The source of the request whose head has arrived, if the fast path may take it; None otherwise."""
        source = self._endpoint.source_at.get(self.url)
        if (
            source is None
            or self.parser.get_method() != b"POST"
            or (self.cycle is not None and not self.cycle.response_complete)
            or self.expect_100_continue
            or self.flow.write_paused
        ):
            return None
        return source

    def _submitted(self, name: str) -> bool:
        """Submit the webhook, to be answered later; return whether it was submitted.

        A body that is too large is left to the application, which refuses it.
        """
        endpoint = self._endpoint
        body = b"".join(self._parts)
        size = len(body)
        if size > endpoint.max_body_bytes:
            return False
        if self._head_memory > USUAL_HEAD:
            size += self._head_memory
        webhook = FastPathRequest(self, endpoint, name, keep_alive=self._stays)
        try:
            webhook.hold(size)
        except Unavailable as refusal:
            # Not by the application, whose refusals cost more than an ack.
            self.loop.call_later(REFUSAL_PAUSE, webhook.set_exception, refusal)
        else:
            # The target includes the root path, as on uvicorn's way, because a sender may sign the path that it called.
            target = self._root + self.url
            try:
                endpoint.submit(Request(endpoint.sources[name], self.headers, body, target), webhook)
            except BaseException:
                # Nothing will answer it.
                webhook.release()
                raise
        self._source, self._parts = None, []
        self.cycle = self._answering = webhook  # type: ignore[assignment]
        return True

    def go_on(self) -> None:
        """Continue with the requests that wait after this webhook."""
        if self.pipeline or self._is_deaf:
            self.on_response_complete()
            return
        self.server_state.total_requests += 1
        self._idle_since = self.loop.time()


class FastPathRequest:
    """A webhook on the fast path, which sends its reply as soon as its result is set.

    For group commit it behaves like a future, and setting its result raises nothing, because other requests wait for
    theirs. For uvicorn it behaves like a cycle, with the attributes that uvicorn uses.
    """

    __slots__ = (
        *("_began", "_endpoint", "_name", "_protocol", "_replied", "_size"),
        *("disconnected", "keep_alive", "message_event", "response_complete"),
    )

    def __init__(self, protocol: FastPathProtocol, endpoint: Endpoint, name: str, *, keep_alive: bool) -> None:
        """`name` is the name of the source."""
        self._began = perf_counter()
        self._endpoint = endpoint
        self._name = name
        self._protocol = protocol
        self._replied = False
        #: The bytes that count as waiting.
        self._size = 0
        #: Whether the connection stays open. The server sets this to False when it stops.
        self.keep_alive = keep_alive
        self.response_complete = False
        self.disconnected = False
        self.message_event = _NOBODY

    def hold(self, size: int) -> None:
        """Count `size` bytes of a webhook as waiting until the answer. Raises `Unavailable` if too much waits."""
        self._endpoint.waiting.hold(size)
        self._size = size

    def done(self) -> bool:
        return self._replied

    def set_result(self, accepted: Accepted | SenderReply) -> None:
        endpoint = self._endpoint
        self.release()
        try:
            self._reply(endpoint.ack(self._name, accepted))
            endpoint.note_ack(self._began)
        except Exception:
            self._give_up()

    def set_exception(self, refusal: Refused) -> None:
        self.release()
        client = self._protocol.client
        try:
            self._reply(self._endpoint.refused(self._name, refusal, peer=client[0] if client else ""))
        except Exception:
            self._give_up()

    def release(self) -> None:
        """Note that an answer is made, or that none will be, so that the body no longer counts as waiting."""
        self._replied = True
        self._endpoint.waiting.release(self._size)

    def _give_up(self) -> None:
        log.exception("cannot answer a webhook", about={"source": self._name})
        self.response_complete = True
        self._protocol.end()

    def _reply(self, reply: Reply) -> None:
        """Send the answer, unless the sender has gone."""
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


class _Nobody:
    """Replaces the event on which uvicorn's coroutine would wait, because no coroutine waits here."""

    def set(self) -> None:
        pass


_NOBODY = _Nobody()
