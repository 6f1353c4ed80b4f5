"""The endpoint: a webhook comes in, and is answered when it is safe.

A plain ASGI application: request and response objects would cost nearly half of its speed (docs/decisions/0003).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import Any

import structlog

from receiver import metrics
from receiver.codec import encode
from receiver.errors import BodyTooLarge, MethodNotAllowed, Refused, Unavailable, UnknownSource
from receiver.filing import Accepted
from receiver.patience import Patience
from receiver.signatures import RawHeaders
from receiver.sources import Source

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

log = structlog.get_logger(__name__)

PREFIX = "/hooks/"


class SenderGone(Exception):
    """The sender closed the connection before its body was complete: nothing to answer, nobody to answer to."""


class Endpoint:
    """`POST /hooks/{source}`: read the bytes, admit them, and answer when they are safe."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        admit: Callable[[Source, RawHeaders, bytes], Awaitable[Accepted]],
        *,
        max_body_bytes: int,
        max_waiting_bytes: int,
        body_timeout: float,
    ) -> None:
        self._sources = sources
        self._admit = admit
        self._max_body_bytes = max_body_bytes
        self._max_waiting_bytes = max_waiting_bytes
        self._patience = Patience(body_timeout)
        self._waiting_bytes = 0

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        began = perf_counter()
        name = scope["path"][len(PREFIX) :]
        try:
            source = self._source(name, scope["method"])
            body = await self._read(scope["headers"], receive)
            try:
                accepted = await self._admit(source, scope["headers"], body)
            finally:
                self._waiting_bytes -= len(body)
        except Refused as refusal:
            metrics.REFUSED.labels(name if name in self._sources else "", refusal.code).inc()
            log.warning("refused a webhook", source=name[:64], code=refusal.code)
            await _answer_refusal(send, refusal)
        except SenderGone:
            return
        else:
            await _answer_accepted(send, accepted)
            metrics.ACK_SECONDS.observe(perf_counter() - began)

    def _source(self, name: str, method: str) -> Source:
        source = self._sources.get(name)
        if source is None:
            raise UnknownSource(f"There is no source {name[:64]!r} here. Compare the URL with the receiver's settings.")
        if method != "POST":
            raise MethodNotAllowed("Webhooks are sent with POST.")
        return source

    async def _read(self, headers: RawHeaders, receive: Receive) -> bytes:
        """The body, counted as waiting from its first byte on; the caller gives the count back."""
        for name, value in headers:
            if name == b"content-length" and value.isdigit() and int(value[:20]) > self._max_body_bytes:
                raise self._too_large()
        chunks: list[bytes] = []
        size = 0
        try:
            with self._patience:
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise SenderGone
                    chunk = message.get("body", b"")
                    size += len(chunk)
                    self._hold(len(chunk))
                    chunks.append(chunk)
                    if size > self._max_body_bytes:
                        raise self._too_large()
                    more = message.get("more_body", False)
        except BaseException as error:
            self._waiting_bytes -= size
            if isinstance(error, TimeoutError):
                raise Unavailable("The body took too long to arrive. Send it again later.") from None
            raise
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _hold(self, size: int) -> None:
        self._waiting_bytes += size
        if self._waiting_bytes > self._max_waiting_bytes:
            raise Unavailable("Too much is waiting to be stored. Send this again later.")

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(
            f"The body is larger than {self._max_body_bytes} bytes. Send less at once, or raise max_body_bytes."
        )


async def _answer_accepted(send: Send, accepted: Accepted) -> None:
    body = b'{"status":"%b","delivery":"%d"}' % (accepted.status.encode(), accepted.delivery_id)
    await _answer(send, 200, body, [])


async def _answer_refusal(send: Send, refusal: Refused) -> None:
    body = encode({"error": refusal.code, "message": refusal.message})
    headers = []
    if isinstance(refusal, Unavailable):
        headers.append((b"retry-after", str(refusal.retry_after).encode()))
    if isinstance(refusal, MethodNotAllowed):
        headers.append((b"allow", b"POST"))
    if isinstance(refusal, (BodyTooLarge, Unavailable)):
        # The rest of the body is not read, so the connection cannot carry another request.
        headers.append((b"connection", b"close"))
    await _answer(send, refusal.status, body, headers)


async def _answer(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    common = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": common + headers})
    await send({"type": "http.response.body", "body": body})
