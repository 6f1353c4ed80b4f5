"""The endpoint: a webhook comes in, and is answered when it is safe.

A plain ASGI application: request and response objects would cost nearly half of its speed (docs/decisions/0003).
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping
from time import perf_counter
from typing import Any, NamedTuple

import structlog

from receiver import metrics
from receiver.admission import Answer
from receiver.codec import encode
from receiver.errors import BodyTooLarge, MethodNotAllowed, Refused, Unavailable, UnknownSource
from receiver.filing import Accepted
from receiver.patience import Patience
from receiver.signatures import RawHeaders
from receiver.sources import Source

Header = tuple[bytes, bytes]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

log = structlog.get_logger(__name__)

PREFIX = "/hooks/"


class SenderGone(Exception):
    """The sender closed the connection before its body was complete: nothing to answer, nobody to answer to."""


class Reply(NamedTuple):
    """What the sender gets: JSON, and perhaps headers that say what to do next."""

    status: int
    body: bytes
    headers: tuple[Header, ...] = ()
    #: Whether the connection ends with it, since the rest of the body is not read.
    closes: bool = False


class Endpoint:
    """`POST /hooks/{source}`: read the bytes, admit them, and answer when they are safe."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        admit: Callable[[Source, RawHeaders, bytes, Answer], None],
        *,
        max_body_bytes: int,
        max_waiting_bytes: int,
        body_timeout: float,
    ) -> None:
        """`admit` sees to it that the answer is given: where the body is kept, or a `Refused`."""
        self._admit = admit
        self._waiting_bytes = 0
        self.renew(
            sources, max_body_bytes=max_body_bytes, max_waiting_bytes=max_waiting_bytes, body_timeout=body_timeout
        )
        #: Kept, because asking for the running loop costs a system call each time.
        self._loop: asyncio.AbstractEventLoop | None = None

    def renew(
        self, sources: Mapping[str, Source], *, max_body_bytes: int, max_waiting_bytes: int, body_timeout: float
    ) -> None:
        """From now on listen to these, within these limits. A request under way keeps the source that it began with.

        To be called in the event loop.
        """
        self._sources = sources
        self._addresses = {f"{PREFIX}{name}".encode(): name for name in sources}
        self._max_body_bytes = max_body_bytes
        self._max_waiting_bytes = max_waiting_bytes
        self._patience = Patience(body_timeout)

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        began = perf_counter()
        name = scope["path"][len(PREFIX) :]
        try:
            source = self._source(name, scope["method"])
            body = await self._read(scope["headers"], receive)
            answer = self._new_answer()
            try:
                self._admit(source, scope["headers"], body, answer)
                accepted = await answer
            finally:
                self.forget(len(body))
        except Refused as refusal:
            await _send(send, self.refused(name, refusal))
        except SenderGone:
            return
        else:
            await _send(send, _accepted(accepted))
            metrics.ACK_SECONDS.observe(perf_counter() - began)

    def source_at(self, address: bytes) -> str | None:
        """The name of the source whose address this is, letter for letter."""
        return self._addresses.get(address)

    def take(self, whole: Whole, headers: RawHeaders, body: bytes) -> bool:
        """Admit a POST whose body is all there; it replies when there is an answer.

        False, and nothing has happened, if it is too large or too much is waiting: as a request to this application it
        is refused with the reason.
        """
        size = whole.size
        if size > self._max_body_bytes or self._waiting_bytes + size > self._max_waiting_bytes:
            return False
        self._waiting_bytes += size
        self._admit(self._sources[whole.name], headers, body, whole)
        return True

    def forget(self, size: int) -> None:
        """So many bytes of body wait no longer."""
        self._waiting_bytes -= size

    def _source(self, name: str, method: str) -> Source:
        source = self._sources.get(name)
        if source is None:
            raise UnknownSource(f"There is no source {name[:64]!r} here. Compare the URL with the receiver's settings.")
        if method != "POST":
            raise MethodNotAllowed("Webhooks are sent with POST.")
        return source

    def _new_answer(self) -> asyncio.Future[Accepted]:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop.create_future()

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

    def refused(self, name: str, refusal: Refused) -> Reply:
        """Count the refusal and say it."""
        metrics.REFUSED.labels(name if name in self._sources else "", refusal.code).inc()
        log.warning("refused a webhook", source=name[:64], code=refusal.code)
        headers: tuple[Header, ...] = ()
        if isinstance(refusal, Unavailable):
            headers = ((b"retry-after", str(refusal.retry_after).encode()),)
        if isinstance(refusal, MethodNotAllowed):
            headers = ((b"allow", b"POST"),)
        body = encode({"error": refusal.code, "message": refusal.message})
        return Reply(refusal.status, body, headers, closes=isinstance(refusal, (BodyTooLarge, Unavailable)))


class Whole(ABC):
    """A webhook that came whole: replies as soon as it gets its answer, without a coroutine that waits for it.

    To whoever gives the answer it is as good as a future, so giving it raises nothing: others wait for theirs.
    """

    __slots__ = ("_began", "_endpoint", "_replied", "name", "size")

    def __init__(self, endpoint: Endpoint, name: str, size: int) -> None:
        """`name` is that of the source, `size` that of the body in bytes."""
        self._endpoint = endpoint
        self._began = perf_counter()
        self._replied = False
        self.name = name
        self.size = size

    @abstractmethod
    def reply(self, reply: Reply) -> None:
        """Send it, if there is still somebody to send it to."""

    @abstractmethod
    def hang_up(self) -> None:
        """End the connection without a reply."""

    def done(self) -> bool:
        return self._replied

    def set_result(self, accepted: Accepted) -> None:
        self._end(_accepted, accepted)
        metrics.ACK_SECONDS.observe(perf_counter() - self._began)

    def set_exception(self, refusal: Refused) -> None:
        self._end(self._endpoint.refused, self.name, refusal)

    def _end(self, say: Callable[..., Reply], *what: Any) -> None:
        self._replied = True
        self._endpoint.forget(self.size)
        try:
            self.reply(say(*what))
        except Exception:
            log.exception("a webhook could not be answered", source=self.name)
            self.hang_up()


def framed(headers: Iterable[Header], length: int, *, closes: bool) -> list[Header]:
    """The headers of an answer with a body of so many bytes, behind which the connection may close."""
    lines = [*headers, (b"content-type", b"application/json"), (b"content-length", b"%d" % length)]
    if closes:
        lines.append((b"connection", b"close"))
    return lines


async def _send(send: Send, reply: Reply) -> None:
    headers = framed(reply.headers, len(reply.body), closes=reply.closes)
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


def _accepted(accepted: Accepted) -> Reply:
    return Reply(200, b'{"status":"%b","delivery":"%d"}' % (accepted.status.encode(), accepted.delivery_id))
