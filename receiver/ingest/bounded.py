"""Limits of one connection: everything that is read from it is bounded in bytes and in time.

Other modules decide how a request is answered.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
import structlog
from uvicorn import Config

from receiver.errors import HeadTooLarge, Limited, MethodNotAllowed, RequestTimeout, Unavailable, UrlTooLong
from receiver.errors import Refused as Refusal
from receiver.ingest.closing import LINGER_BYTES, STOP_SECONDS, ClosingProtocol
from receiver.ingest.connections import TOO_MANY, Awaited, Connections, Wait
from receiver.ingest.heads import HEADER_MEMORY, HELD, REQUEST_MEMORY, USUAL_HEAD
from receiver.ingest.incoming import Piece, limited
from receiver.ingest.parser import feed, head_without_offer, new_parser, reason_to_stop
from receiver.ingest.replies import Reply, reply_at, reply_to
from receiver.logs.repeats import Repeats
from receiver.metrics import metrics

log = Repeats(structlog.get_logger(__name__))

#: Seconds within which a sender must read nearly all of its waiting answers (down to the transport's lower mark), once
#: the buffers are full. Reading a part prolongs nothing, or a stranger could hold a connection with a byte a minute.
UNREAD_SECONDS = 60.0

#: The most requests that may wait on one connection for the current one's answer.
LONGEST_PIPELINE = 64

_TOO_LARGE = "The head of the request, or the text between two parts of its body, is larger than {} bytes. Send less."


class BoundedProtocol(ClosingProtocol):
    """One connection to a server whose application has `connections`."""

    __slots__ = (
        *("_body_since", "_connections", "_head", "_head_memory", "_head_received", "_head_since", "_in_head"),
        *("_in_offer", "_keeps", "_largest_header", "_limits", "_longest_url", "_most_headers", "_most_unframed"),
        *("_queue", "_unframed", "_unread", "_unread_since"),
    )

    def __init__(self, config: Config, **of_uvicorn: Any) -> None:
        super().__init__(config, **of_uvicorn)
        self._connections: Connections = config.app.connections  # type: ignore[union-attr]
        limits = self._limits = self._connections.limits
        #: Limits copied into attributes, because each request reads them.
        self._most_headers, self._largest_header = limits.max_headers, limits.max_header_bytes
        self._most_unframed, self._longest_url = limits.max_head_bytes, limits.max_url_bytes
        #: The part of a request, except a body, that the parser is reading. An offer is a head that offers to upgrade.
        self._in_head, self._in_offer = False, False
        #: Bytes received since the parser last completed a head or a part of a body.
        self._unframed = 0
        #: Bytes of memory of what the parser made of the head, and bytes of the packets of an incomplete head.
        self._head_memory = self._head_received = 0
        self._head: Piece | None = None
        #: The requests that wait for the current request's answer, and the answers that the sender has not read.
        self._queue: Piece | None = None
        self._unread: Piece | None = None
        #: By the loop's clock: the times at which the wait for a head, for a body, and for a reader of answers began.
        self._head_since: float | None = None
        self._body_since = 0.0
        self._unread_since: float | None = None
        #: For a request with `Expect: 100-continue`, whether the connection stays open after it.
        self._keeps = True

    # ── the connection ────────────────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_since = self.loop.time()
        if self._connections.enter(self, self.client[0] if self.client else "", self.loop) is not None:
            self.write(reply_to(TOO_MANY), closes=True)
            self._end(still_sending=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.leave(self)
        self._forget_head()
        super().connection_lost(exc)
        self._hold_queue()
        if self._unread is not None:
            self._forget_unread()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread_since = self.loop.time()
        self._hold_unread()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget_unread()

    # ── bounds ────────────────────────────────────────────────────────────────────────────────────────────────

    def wait(self) -> Wait | None:
        if self._has_ended:
            return Wait(Awaited.HEAD_OR_READING, 0.0)
        if self._unread_since is not None:
            # Checked first, because an unread answer counts as still being sent.
            return Wait(Awaited.HEAD_OR_READING, self._unread_since)
        if self._in_body:
            return Wait(Awaited.BODY, self._body_since)
        if self._head_since is not None:
            return Wait(Awaited.HEAD_OR_READING, self._head_since)
        return None if self._idle_since is None else Wait(Awaited.REQUEST, self._idle_since)

    def check_limits(self, now: float) -> None:
        stops = self._stopping_since is not None and now - self._stopping_since >= STOP_SECONDS
        if stops and not self._has_ended and (self._in_body or self.pipeline):
            self._drop_queue(Unavailable("This server is about to stop. Send this again later."))
        if self._linger_until is not None:
            if now >= self._linger_until:
                self._wire.abort()
        elif self._unread_since is not None:
            if now - self._unread_since >= (STOP_SECONDS if stops else UNREAD_SECONDS):
                self.cut()
        elif self._is_deaf:
            return
        elif self._head_since is not None:
            if now - self._head_since >= self._limits.head_timeout:
                self._give_head_up()
        elif self._idle_since is not None and now - self._idle_since >= self._limits.keep_alive_timeout:
            self.end()

    def _give_head_up(self) -> None:
        if self._in_head or self._unframed:
            self._refuse(RequestTimeout("The head of the request took too long to arrive. Send it again."))
        else:
            limited("head_timeout")
            self.end()

    def _hold(self, size: int) -> None:
        """Count a packet of `size` bytes that ends with an incomplete request, if that is still in its head.

        Where in its first packet a head began is not known, so all of this packet counts, up to the bound of a head.
        """
        if not self._in_head:
            return
        if self._head_since is None:
            self._head_since = self.loop.time()
        if self._head is None:
            self._head = self._connections.incoming.head(self._refuse_untold)
            self._head_received = 0
        self._head_received += min(size, self._most_unframed)
        self._head.resize(self._head_received + HEADER_MEMORY * len(self.headers))

    def _forget_head(self) -> None:
        self._head_since = None
        if self._head is not None:
            self._head.leave()
            self._head = None

    def _hold_queue(self) -> None:
        """Count the heads and the unread bodies of requests that wait for an earlier request's answer."""
        if self.pipeline:
            size = sum(cycle.scope[HELD] + len(cycle.body) for cycle, _ in self.pipeline)  # type: ignore[literal-required]
            if self._queue is None:
                self._queue = self._connections.incoming.head(self._drop_queue)
            self._queue.resize(size)
        elif self._queue is not None:
            self._queue.leave()
            self._queue = None

    def _hold_unread(self) -> None:
        """Count the answers that the sender has not read, and the request whose answer waits for that."""
        scope = getattr(self._answering, "scope", {})
        if self._unread is None:
            self._unread = self._connections.incoming.head(self._cut_unread)
        self._unread.resize(self._wire.get_write_buffer_size() + scope.get(HELD, 0))

    def _forget_unread(self) -> None:
        self._unread_since = None
        if self._unread is not None:
            self._unread.leave()
            self._unread = None

    def _cut_unread(self, refusal: Refusal) -> None:  # noqa: ARG002 (the sender would not read it)
        self.cut()

    def _drop_queue(self, refusal: Refusal) -> None:
        """Refuse the incomplete request and those that wait for an earlier request's answer."""
        while self.pipeline:
            self._break_off(self.pipeline.pop()[0])
        self._refuse_untold(refusal)

    # ── received bytes ────────────────────────────────────────────────────────────────────────────────────────

    def data_received(self, data: bytes) -> None:
        if (self._is_deaf or self._linger_until is not None) and self._throw_away(len(data)):
            return
        self._unframed += len(data)
        if self._unframed > self._most_unframed:
            self._unframed -= len(data)
            self._feed_in_slices(data)
        else:
            stopped = feed(self.parser, data)
            if stopped is not None:
                self._go_on(stopped, data)
        if self.pipeline:
            self._hold_queue()
        if (self._in_head or self._in_body) and not self._is_deaf:
            self._hold(len(data))

    def _feed_in_slices(self, data: bytes) -> None:
        """Parse large data in slices, so that bytes outside a body are counted exactly."""
        rest = memoryview(data)
        while rest and not self._is_deaf:
            room = self._most_unframed - self._unframed
            if room <= 0:
                self._refuse(HeadTooLarge(_TOO_LARGE.format(self._most_unframed), limit="max_head_bytes"))
                return
            self._unframed += min(room, len(rest))
            stopped = feed(self.parser, rest[:room])
            if stopped is not None:
                self._go_on(stopped, rest[:room])
            rest = rest[room:]

    def _go_on(self, stopped: Exception | None, data: bytes | memoryview) -> None:
        """Continue after the position at which the parser stopped, or refuse the request."""
        while isinstance(stopped, httptools.HttpParserUpgrade):
            # This server upgrades no connection, so the request counts as if it had no such offer (RFC 9110 §7.8).
            data = head_without_offer(self.parser, self.url, self.headers) + bytes(memoryview(data)[stopped.args[0] :])
            self.parser = new_parser(self)
            stopped = feed(self.parser, data)
        if stopped is not None:
            self._refuse(reason_to_stop(stopped.__context__, data))

    # ── callbacks of the parser ───────────────────────────────────────────────────────────────────────────────

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._in_head = True
        self._in_offer = False
        self._idle_since = None

    def on_url(self, url: bytes) -> None:
        self.url += url
        length = len(self.url)
        if length > self._longest_url:
            raise UrlTooLong(f"The URL is longer than {self._longest_url} bytes. Shorten it.")
        self._head_memory = REQUEST_MEMORY + length

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            # Trailers after a chunked body may be ignored (RFC 9110 §6.5).
            return
        headers = self.headers
        if len(headers) >= self._most_headers:
            raise HeadTooLarge(
                f"The request has more than {self._most_headers} headers. Send fewer.", limit="max_headers"
            )
        size = len(name) + len(value)
        if size > self._largest_header:
            raise HeadTooLarge(
                f"A header is larger than {self._largest_header} bytes. Shorten it.", limit="max_header_bytes"
            )
        name = name.lower()
        # A client of HTTP/1.0 would take `100 Continue` for the answer (RFC 9110 §10.1.1).
        if name == b"expect" and value.lower() == b"100-continue" and self.parser.get_http_version() != "1.0":
            self.expect_100_continue = True
        headers.append((name, value))
        self._head_memory += HEADER_MEMORY + size

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._unframed = 0
        self._head_since = None
        if self._head is not None:
            self._forget_head()
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise MethodNotAllowed("This is not a proxy. Webhooks are sent with POST.")
            self._in_offer = True
        else:
            self._begin()
            self._in_body = True

    def on_body(self, body: bytes) -> None:
        self._unframed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unframed = 0
        if self._in_offer:
            return
        self._in_body = False
        if self._linger_until is not None:
            # The request was answered before its end, which has now arrived, so the connection may carry the next one.
            self._linger_until, self._linger_bytes = None, LINGER_BYTES
            self._idle_since = self.loop.time()
        if self.expect_100_continue and not self.cycle.response_started and self._stopping_since is None:
            self.cycle.keep_alive = self._keeps
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._hold_queue()
        if self._unread_since is not None:
            self._hold_unread()

    # ── requests ──────────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self) -> None:
        """Begin a request whose head is complete."""
        self._begin_in_uvicorn()

    def _begin_in_uvicorn(self) -> None:
        """Call uvicorn's methods for the beginning of a request and for its complete head."""
        if len(self.pipeline) >= LONGEST_PIPELINE:
            raise Limited("Too many requests wait on this connection. Send fewer before their answers.")
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.headers, self.expect_100_continue = url, headers, expects
        self.scope["headers"] = headers
        super().on_headers_complete()
        counts = self.pipeline or self._head_memory > USUAL_HEAD
        self.scope[HELD] = self._head_memory if counts else 0  # type: ignore[literal-required]
        self._body_since = self.loop.time()
        if expects:
            # A sender refused before `100 Continue` may begin a new request instead of sending the body.
            self._keeps, self.cycle.keep_alive = self.cycle.keep_alive, False

    # ── refusals ──────────────────────────────────────────────────────────────────────────────────────────────

    def _refuse(self, refusal: Refusal) -> None:
        """End the connection with this answer, after those still owed."""
        if refusal.limit:
            limited(refusal.limit)
        else:
            peer = self.client[0] if self.client else ""
            log.warning("refused a request", about={"code": refusal.code}, peer=peer, says=str(refusal))
        self._refuse_untold(refusal)

    def _refuse_untold(self, refusal: Refusal) -> None:
        metrics.REFUSED.labels("", refusal.code).inc()
        # Before the first request begins, there is no URL.
        self._read_no_more(reply_at(getattr(self, "url", b""), self.root_path, refusal))

    def _read_no_more(self, last_word: Reply | None) -> bool:
        self._forget_head()
        return super()._read_no_more(last_word)
