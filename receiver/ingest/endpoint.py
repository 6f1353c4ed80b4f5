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

from receiver.codec import encode
from receiver.errors import BodyTooLarge, MethodNotAllowed, Refused, Unavailable, UnknownSource
from receiver.inbox.arrival import Accepted
from receiver.ingest.admission import Answer
from receiver.ingest.backpressure import Backpressure
from receiver.ingest.incoming import Incoming
from receiver.ingest.paths import PREFIX, SHOWN, flaw, source_named
from receiver.ingest.source import VerifiableSource
from receiver.logs.repeats import Repeats
from receiver.metrics import metrics
from receiver.settings.limits import Limits
from receiver.verify.signatures import RawHeaders

Header = tuple[bytes, bytes]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

log = structlog.get_logger(__name__)


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
        sources: Mapping[str, VerifiableSource],
        admit: Callable[[VerifiableSource, RawHeaders, bytes, Answer], None],
        *,
        limits: Limits,
        incoming: Incoming,
    ) -> None:
        """`admit` sees to it that the answer is given: where the body is kept, or a `Refused`.

        Bodies that are not complete are held by `incoming`.
        """
        self._admit = admit
        self._incoming = incoming
        #: Bodies that are complete and not answered yet.
        self.waiting = Backpressure(limits.max_waiting_bytes)
        self._log = Repeats(log)
        self.renew(sources, limits)
        #: Kept, because asking for the running loop costs a system call each time.
        self._loop: asyncio.AbstractEventLoop | None = None

    def renew(self, sources: Mapping[str, VerifiableSource], limits: Limits) -> None:
        """From now on listen to these, within these limits. A request under way keeps the source that it began with.

        To be called in the event loop.
        """
        self._sources = sources
        self._addresses = {f"{PREFIX}{name}{slash}".encode(): name for name in sources for slash in ("", "/")}
        self._max_body_bytes = limits.max_body_bytes
        self.waiting.max_bytes = limits.max_waiting_bytes

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        began = perf_counter()
        path = inner_path(scope)
        name = source_named(path)
        try:
            source = self._source(path, scope["method"])
            body = await self._read(scope["headers"], receive)
            answer = self._new_answer()
            try:
                self._admit(source, scope["headers"], body, answer)
                accepted = await answer
            finally:
                self.waiting.release(len(body))
        except Refused as refusal:
            await _send(send, self.refused(name, refusal))
        except SenderGone:
            return
        else:
            await _send(send, _accepted(accepted))
            metrics.ACK_SECONDS.observe(perf_counter() - began)

    def source_at(self, address: bytes) -> str | None:
        """The name of the source whose address this is, letter for letter but for a slash at the end."""
        return self._addresses.get(address)

    def take(self, whole: FastPathRequest, headers: RawHeaders, body: bytes) -> bool:
        """Admit a POST whose body is all there; it replies when there is an answer.

        False, and nothing has happened, if it is too large or too much is waiting: as a request to this application it
        is refused with the reason.
        """
        size = whole.size
        if size > self._max_body_bytes or not self.waiting.has_room(size):
            return False
        self.waiting.hold(size)
        self._admit(self._sources[whole.name], headers, body, whole)
        return True

    def _source(self, path: str, method: str) -> VerifiableSource:
        source = self._sources.get(source_named(path)) if path.startswith(PREFIX) else None
        if source is None:
            raise UnknownSource(flaw(path, self._sources))
        if method != "POST":
            raise MethodNotAllowed("Webhooks are sent with POST.")
        return source

    def _new_answer(self) -> asyncio.Future[Accepted]:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop.create_future()

    async def _read(self, headers: RawHeaders, receive: Receive) -> bytes:
        """The complete body, counted as waiting; the caller gives the count back."""
        named = dict(headers)
        length = named.get(b"content-length", b"")
        if length.isdigit() and int(length[:20]) > self._max_body_bytes:
            raise self._too_large()
        chunks: list[bytes] = []
        with self._incoming.body() as body:
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise SenderGone
                chunk = message.get("body", b"")
                chunks.append(chunk)
                body.grow(len(chunk))
                if body.size > self._max_body_bytes:
                    raise self._too_large()
                more = message.get("more_body", False)
        if not body.size and b"upgrade" in named and (length.strip(b"0") or b"transfer-encoding" in named):
            # Other servers than ours read no body behind such a head. Taken for empty, it would be acked and lost.
            raise Unavailable("The body did not get here. Send it again, without the header Upgrade.")
        self.waiting.hold(body.size)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(
            f"The body is larger than {self._max_body_bytes} bytes. Send less at once, or raise max_body_bytes."
        )

    def tell_exception(self, event: str, name: str) -> None:
        """Log what is being handled, about the source of this name."""
        self._log.exception(event, about={"source": name})

    def refused(self, name: str, refusal: Refused) -> Reply:
        """Count the refusal and say it."""
        known = name if name in self._sources else ""
        metrics.REFUSED.labels(known, refusal.code).inc()
        self._log.warning("refused a webhook", about={"source": known, "code": refusal.code}, asked_for=name[:SHOWN])
        return reply_to(refusal)


class FastPathRequest(ABC):
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
        self._endpoint.waiting.release(self.size)
        try:
            self.reply(say(*what))
        except Exception:
            self._endpoint.tell_exception("a webhook could not be answered", self.name)
            self.hang_up()


def inner_path(scope: Mapping[str, Any]) -> str:
    """The path below the one where this application is mounted: what the server or an outer application took is cut."""
    path: str = scope["path"]
    outer: str = scope.get("root_path", "").rstrip("/")
    if not outer or not path.startswith(f"{outer}/"):
        return path
    inner = path[len(outer) :]
    # Said as "/pim/", it stands before a path that begins with a slash of its own.
    return inner[1:] if scope["root_path"].endswith("/") and inner.startswith("//") else inner


def reply_to(refusal: Refused) -> Reply:
    """What its sender is told."""
    headers: tuple[Header, ...] = ()
    if isinstance(refusal, Unavailable):
        headers = ((b"retry-after", str(refusal.retry_after).encode()),)
    if isinstance(refusal, MethodNotAllowed):
        headers = ((b"allow", b"POST"),)
    body = encode({"error": refusal.code, "message": refusal.message})
    return Reply(refusal.status, body, headers, closes=isinstance(refusal, (BodyTooLarge, Unavailable)))


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
