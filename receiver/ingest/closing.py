"""Closes connections after sending all pending answers, so that they reach even a sender that is still sending.

A sender that disconnects, or ends its side, is a normal case and causes no log line.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import Any

from msgspec.structs import replace
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from receiver.ingest.line import Flow, Line
from receiver.ingest.replies import HeaderPair, Reply, framed

#: Seconds and bytes for which a request is still read after an early answer, so that its sender sees the answer.
LINGER_SECONDS = 10.0
LINGER_BYTES = 33_554_432

#: Seconds that a stop leaves to senders: to send the rest of a body, and to read their answers.
STOP_SECONDS = 5.0

#: Stands in the scope of a request whose answer has no end of its own: it ends with the reader's side.
ENDLESS = "hookmirror.endless"

#: Names the function in each scope that aborts the connection, for an answer that cannot be completed.
ABORT = "hookmirror.abort"


class ClosingProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a different way of closing connections."""

    #: Slots, here and in the subclasses, because an object with more than 30 other attributes has a dictionary that is
    #: larger and slower to read.
    __slots__ = (
        *("_answering", "_has_ended", "_idle_since", "_in_body", "_is_deaf", "_last_word", "_linger_bytes"),
        *("_linger_until", "_sender_is_done", "_stopping_since", "_wire"),
    )

    def __init__(self, config: Config, **of_uvicorn: Any) -> None:
        super().__init__(config, **of_uvicorn)
        self._wire: asyncio.Transport = None  # type: ignore[assignment]
        #: The request being answered, a cycle in uvicorn's terms; others may wait after it.
        self._answering: Any = None
        #: Whether a request has begun whose body is not complete.
        self._in_body = False
        #: By the loop's clock, the time at which the wait for the next request began.
        self._idle_since: float | None = None
        #: Set when reading has ended: it is sent after the answers to complete requests, and then the connection ends.
        self._is_deaf = False
        self._last_word: Reply | None = None
        self._has_ended = False
        self._sender_is_done = False
        #: The bytes that may still be discarded, and the time limit; beyond either, the connection is aborted.
        self._linger_bytes = LINGER_BYTES
        self._linger_until: float | None = None
        self._stopping_since: float | None = None

    # ── the connection ────────────────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._wire = transport
        super().connection_made(Line(transport, self.end, self.has_ended))  # type: ignore[arg-type]
        self.flow = Flow(self.transport, self._is_full)

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_deaf = self._has_ended = True
        self._break_off(self._answering)
        while self.pipeline:
            self._break_off(self.pipeline.pop()[0])
        super().connection_lost(exc)
        # A reference cycle would keep them alive until the garbage collector runs.
        self.transport.release()  # type: ignore[attr-defined]
        self.flow.release()  # type: ignore[attr-defined]
        self.cycle = self._answering = None  # type: ignore[assignment]

    def eof_received(self) -> bool:  # type: ignore[override]
        """Handle the end of the sender's side; return whether an answer is still to be sent."""
        self._sender_is_done = True
        if ENDLESS in getattr(self._answering, "scope", ()):
            # A browser that closes a page closes both sides. Only a write would show that, and the next one may be far
            # off.
            self.cut()
            return False
        return not self._is_deaf and self._read_no_more(None)

    def shutdown(self) -> None:
        self._stopping_since = self.loop.time()
        if self._linger_until is not None:
            self._linger_until = min(self._linger_until, self._stopping_since + STOP_SECONDS)
        if not self._has_ended:
            super().shutdown()

    def cut(self) -> None:
        """Abort the connection."""
        self._is_deaf = self._has_ended = True
        self._wire.abort()

    # ── reading ───────────────────────────────────────────────────────────────────────────────────────────────

    def pause_writing(self) -> None:
        super().pause_writing()
        if not self._has_ended:
            self.flow.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.flow.resume_reading()

    def _is_full(self) -> bool:
        """Whether further bytes would accumulate after an unfinished or unread answer."""
        return not self._has_ended and (self.flow.write_paused or bool(self.pipeline))

    # ── answers ───────────────────────────────────────────────────────────────────────────────────────────────

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._answering = cycle
        # The transport's method, because one of this object would keep it alive by a circle.
        cycle.scope[ABORT] = self._wire.abort
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        following = self.pipeline.pop() if self.pipeline else None
        self.flow.resume_reading()
        if following is not None:
            self._start_asgi_task(*following)
        elif self._is_deaf:
            self._say(self._last_word)
        elif self._in_body:
            self._linger_until = self.loop.time() + LINGER_SECONDS
        else:
            self._idle_since = self.loop.time()

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────────────

    def has_ended(self) -> bool:
        return self._has_ended

    def end(self) -> None:
        """Close the connection once its sender has had the chance to read the answer."""
        self._end(still_sending=self._in_body)

    def _end(self, *, still_sending: bool) -> None:
        if self._has_ended:
            return
        self._is_deaf = self._has_ended = True
        is_stopping = self._stopping_since is not None
        self._linger_until = self.loop.time() + (STOP_SECONDS if is_stopping else LINGER_SECONDS)
        may_linger = not self._sender_is_done and not is_stopping
        if still_sending and may_linger and not self._wire.is_closing():
            # Closing while the sender still sends causes a reset, and the sender loses the answer.
            self.flow.resume_reading()
            self._wire.write_eof()
        else:
            self._wire.close()

    def _throw_away(self, size: int) -> bool:
        """Discard received bytes if reading has ended; return whether they were discarded."""
        self._linger_bytes -= size
        if self._linger_bytes < 0:
            self.cut()
        return self._is_deaf

    def _read_no_more(self, last_word: Reply | None) -> bool:
        """Stop reading, answer the complete requests, then end the connection; return whether there are any."""
        if last_word is not None and self._refuses_head():
            last_word = replace(last_word, to_head=True)
        self._is_deaf, self._last_word = True, last_word
        if self._in_body:
            self._in_body = False
            self._break_off(self.cycle)
            if self.pipeline and self.pipeline[0][0] is self.cycle:
                self.pipeline.popleft()
        elif self.cycle is not None and last_word is None:
            self.cycle.keep_alive = False
        owed = self._answering
        if owed is None or owed.response_complete or owed.disconnected:
            self._say(last_word)
            return False
        return True

    def _refuses_head(self) -> bool:
        """Whether the request that is being received is a HEAD request. The parser knows that from the URL on."""
        return bool(getattr(self, "url", b"")) and self.parser.get_method() == b"HEAD"

    def _break_off(self, cycle: Any) -> None:
        """Tell the application of an incomplete request that the sender has gone."""
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()

    def _say(self, last_word: Reply | None) -> None:
        if last_word is not None:
            self.write(last_word, closes=True)
        self._end(still_sending=last_word is not None)

    def write(self, reply: Reply, *, closes: bool) -> None:
        """Write all of an answer at once."""
        if self._has_ended:
            return
        headers = (*self.server_state.default_headers, *reply.headers)
        body = b"" if reply.to_head else reply.body
        self._wire.write(_head(reply.status, headers, len(reply.body), closes=closes) + body)


@lru_cache(maxsize=64)
def _head(status: int, headers: tuple[HeaderPair, ...], length: int, *, closes: bool) -> bytes:
    """Format the head of an answer; cached, because nearly all answers within a second share it."""
    lines = [b"%b: %b\r\n" % header for header in framed(headers, length, closes=closes)]
    return b"".join([STATUS_LINE[status], *lines, b"\r\n"])
