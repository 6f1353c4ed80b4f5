"""The endpoint: receives webhooks, and answers each after it is stored durably.

A plain ASGI application: request and response objects would cost nearly half of its speed (docs/decisions/0003).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from math import inf
from time import perf_counter
from typing import Any

import structlog

from receiver.dialects.replies import SenderReply
from receiver.errors import (
    BodyTooLarge,
    ChallengeRefused,
    MethodNotAllowed,
    NotVerified,
    Refused,
    Unavailable,
    UnknownSource,
)
from receiver.inbox.arrival import Accepted
from receiver.ingest.admission import Request
from receiver.ingest.backpressure import REFUSAL_PAUSE, Backpressure
from receiver.ingest.challenging import answer_challenge
from receiver.ingest.gathering import PendingReply, not_answered, refuse_open
from receiver.ingest.group_commit import Submitted
from receiver.ingest.heads import HELD
from receiver.ingest.incoming import Incoming
from receiver.ingest.misspelt import Misspelt
from receiver.ingest.paths import HOOKS_PATH, SHOWN_OF_NAME, flaw, source_named
from receiver.ingest.replies import Reply, ack, framed, own_reply, refused_as, reply_to
from receiver.ingest.source import VerifiableSource
from receiver.logs.repeats import Repeats
from receiver.metrics import few_names, metrics
from receiver.settings.limits import Limits
from receiver.verify.request import RawHeaders

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

log = structlog.get_logger(__name__)


#: Refusals that senders consider final, after which some senders delete the subscription.
FINAL = (NotVerified, BodyTooLarge, ChallengeRefused, MethodNotAllowed)


class SenderGone(Exception):
    """The sender closed the connection before the body was complete, so there is no request to answer."""


class _BodyMissing(Unavailable):
    """The body was not read, so it may still arrive where the next request would begin."""

    ends_connection = True


class Endpoint:
    """`POST /hooks/{source}`, in the steps of the README's picture:

    source → body, capped → admit: verify, read → accept: inserted or duplicate, committed → reply

    Webhooks that arrive in one piece skip the application (`receiver.ingest.fast_path`), and are submitted likewise.
    """

    def __init__(
        self,
        sources: Mapping[str, VerifiableSource],
        take: Callable[[Sequence[Submitted]], None],
        *,
        limits: Limits,
        incoming: Incoming,
        hand_in_at: float = inf,
    ) -> None:
        """`take` admits and accepts requests and answers them, like `GroupCommit.take`.

        It is called at the end of a turn of the event loop, and also when a request comes while `hand_in_at` others of
        the turn wait. `incoming` holds incomplete bodies.
        """
        self._take, self.hand_in_at = take, hand_in_at
        self._misspelt = Misspelt()
        self._incoming = incoming
        #: Bounds the bytes of complete bodies that are not answered yet.
        self.waiting = Backpressure(limits.max_waiting_bytes)
        #: The requests of this turn of the event loop that are not handed in yet, and whether its end is awaited.
        self._submitted: list[Submitted] = []
        self._awaits_end = False
        #: The seconds of the acks of this turn.
        self._ack_seconds: list[float] = []
        self._log = Repeats(log)
        self.renew(sources, limits)

    def renew(self, sources: Mapping[str, VerifiableSource], limits: Limits) -> None:
        """Replace the sources and limits. A request in progress keeps the source with which it began.

        To be called in the event loop.
        """
        self.sources = sources
        #: The source of each URL that has exactly a source's address, with or without one trailing slash.
        self.source_at = {f"{HOOKS_PATH}{name}{slash}".encode(): name for name in sources for slash in ("", "/")}
        #: The sources whose dialects define their own replies.
        self._acks = {
            name: own_reply(each.dialect.on_accept) for name, each in sources.items() if each.dialect.on_accept
        }
        self._refusals = {name: each.dialect.on_refusal for name, each in sources.items() if each.dialect.on_refusal}
        self.max_body_bytes = limits.max_body_bytes
        self.waiting.max_bytes = limits.max_waiting_bytes

    # ── the steps ─────────────────────────────────────────────────────────────────────────────────────────────

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        began = perf_counter()
        path = inner_path(scope)
        try:
            source = self._source(path, scope["method"])
            if scope["method"] != "POST":
                await _send(send, _challenged(source, scope))
                return
            held = scope.get(HELD, 0)
            body = await self._read(scope["headers"], receive, held)
            accepted = await self._accepted(Request(source, scope["headers"], body, _target(scope)), held)
        except Refused as refusal:
            peer = scope.get("client")
            await _send(send, self.refused(source_named(path), refusal, peer=peer[0] if peer else ""))
        except SenderGone:
            return
        else:
            await _send(send, self.ack(source.name, accepted))
            self.note_ack(began)

    async def _accepted(self, request: Request, held: int) -> Accepted | SenderReply:
        answer: asyncio.Future[Accepted | SenderReply] = self._incoming.loop.create_future()
        try:
            self.submit(request, answer)
            return await answer
        finally:
            self.waiting.release(len(request.body) + held)

    def submit(self, request: Request, answer: PendingReply) -> None:
        """Submit a request for admission and acceptance. `answer` receives an `Accepted` or a `Refused` later.

        Requests that arrive in one turn of the event loop are admitted together at its end: admitting many requests in
        a row takes half as long as admitting them between other work (docs/decisions/0011). An acceptor process gets
        the first of many earlier, and admits them during the rest of the turn (docs/decisions/0046).
        """
        if len(self._submitted) >= self.hand_in_at:
            # Before the present request is added, which must not be answered while it is still being submitted.
            self._hand_in()
        if not self._awaits_end:
            self._incoming.loop.call_soon(self._end_turn)
            self._awaits_end = True
        self._submitted.append((request, answer))

    def _end_turn(self) -> None:
        self._awaits_end = False
        self._hand_in()

    def _hand_in(self) -> None:
        submitted, self._submitted = self._submitted, []
        try:
            self._take([each for each in submitted if not each[1].done()])
        except Exception:
            # Nothing else would answer these requests, and their bodies would count as waiting for good.
            self._log.exception("cannot take webhooks; their senders are asked to retry", about={})
            refuse_open([answer for _, answer in submitted], not_answered())

    def note_ack(self, began: float) -> None:
        """Observe the seconds since `began` as those of an ack.

        The acks of one turn of the event loop are observed together, since one by one takes as long as making them.
        """
        if not self._ack_seconds:
            self._incoming.loop.call_soon(self._observe_acks)
        self._ack_seconds.append(perf_counter() - began)

    def _observe_acks(self) -> None:
        seconds, self._ack_seconds = self._ack_seconds, []
        metrics.observe_all(metrics.ACK_SECONDS, seconds)

    # ── their parts ───────────────────────────────────────────────────────────────────────────────────────────

    def _source(self, path: str, method: str) -> VerifiableSource:
        source = self.sources.get(source_named(path)) if path.startswith(HOOKS_PATH) else None
        if source is None:
            raise UnknownSource(flaw(path, self.sources))
        if method != "POST" and not any(each.about(method, verified=False) for each in source.dialect.challenges):
            raise MethodNotAllowed("Webhooks are sent with POST.")
        return source

    async def _read(self, headers: RawHeaders, receive: Receive, held: int) -> bytes:
        """Read the complete body and count it as waiting with its head, which holds `held` bytes.

        The caller must release the count.
        """
        named = dict(headers)
        length = named.get(b"content-length", b"")
        if length.isdigit() and int(length[:20]) > self.max_body_bytes:
            raise self._too_large(int(length[:20]))
        chunks: list[bytes] = []
        with self._incoming.body(held) as body:
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise SenderGone
                chunk = message.get("body", b"")
                chunks.append(chunk)
                body.grow(len(chunk))
                if body.size > self.max_body_bytes:
                    raise self._too_large(body.size)
                more = message.get("more_body", False)
        if not body.size and b"upgrade" in named and (length.strip(b"0") or b"transfer-encoding" in named):
            # Some servers read no body after such a head. An ack of the empty body would lose the real one.
            raise _BodyMissing("The body did not arrive. Send it again, without the header Upgrade.")
        try:
            self.waiting.hold(body.size + held)
        except Unavailable:
            # Freed, because the bytes of refused bodies are not bounded.
            del chunks, chunk, message
            await asyncio.sleep(REFUSAL_PAUSE)
            raise
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _too_large(self, size: int) -> BodyTooLarge:
        return BodyTooLarge(
            f"The body is larger than {self.max_body_bytes} bytes. Send less at once, or raise max_body_bytes.",
            size=size,
        )

    def refused(self, name: str, refusal: Refused, *, peer: str) -> Reply:
        """Count and log a refusal, and make the reply. `peer` is the address of the connection, perhaps a proxy's."""
        known = name if name in self.sources else ""
        metrics.REFUSED.labels(known, refusal.code).inc()
        if isinstance(refusal, BodyTooLarge) and known:
            few_names.note_too_large(known, refusal.size)
        about = {"source": known, "code": refusal.code}
        perhaps = self._misspelt.meant(name, self.sources) if isinstance(refusal, UnknownSource) else {}
        asked = {"asked_for": name[:SHOWN_OF_NAME], **perhaps}
        if refusal.code == "signature_stale":
            # Only the reason of an authentic request is logged, so that strangers cannot write into the log.
            asked["says"] = refusal.message
        self._log.warning("refused a webhook", about=about, **asked, peer=peer[:SHOWN_OF_NAME])
        if self._refusals and name in self._refusals and isinstance(refusal, FINAL):
            return refused_as(self._refusals[name], refusal)
        return reply_to(refusal)

    def ack(self, name: str, outcome: Accepted | SenderReply) -> Reply:
        """Make the reply to a stored webhook of this source, or to a challenge."""
        if not isinstance(outcome, Accepted):
            return own_reply(outcome)
        if self._acks and name in self._acks:
            return self._acks[name]
        return ack(outcome)

    def meant_elsewhere(self, path: str) -> Mapping[str, str]:
        """Log fields for a webhook to an address outside of `HOOKS_PATH`: the address that was probably meant."""
        return self._misspelt.meant_elsewhere(path, self.sources)


def inner_path(scope: Mapping[str, Any]) -> str:
    """The path below the mount point that the server or an outer application gives to this application."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    outer = root.rstrip("/")
    if not root or not path.startswith(f"{outer}/"):
        return path
    inner = path[len(outer) :]
    # A mount point that is written as "/pim/" precedes a path that begins with another slash.
    return inner[1:] if root.endswith("/") and inner.startswith("//") else inner


def _target(scope: Mapping[str, Any]) -> bytes:
    """Path and query that the sender called, with the root path, since a sender may sign them."""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    root: bytes = scope.get("root_path", "").encode()
    if root.endswith(b"/") and path.startswith(root + b"/"):
        # A server puts a root path that is written as "/pim/" before a path that begins with another slash.
        path = root + path[len(root) + 1 :]
    query: bytes = scope.get("query_string", b"")
    return b"%b?%b" % (path, query) if query else path


def _challenged(source: VerifiableSource, scope: Mapping[str, Any]) -> Reply:
    """Answer a challenge by another method than POST. Raises `MethodNotAllowed` for any other request."""
    method = scope["method"]
    reply = answer_challenge(source, method, _target(scope), scope["headers"], b"", verified=False)
    if reply is None:
        raise MethodNotAllowed("Webhooks are sent with POST.")
    return own_reply(reply)


async def _send(send: Send, reply: Reply) -> None:
    headers = framed(reply.headers, len(reply.body), closes=reply.closes)
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
