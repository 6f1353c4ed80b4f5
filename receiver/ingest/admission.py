"""Admission: verifies requests, and reads their envelopes into arrivals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from time import perf_counter
from types import NoneType
from typing import NamedTuple

import structlog

from receiver.codec import storable
from receiver.dialects.compression import is_compressed
from receiver.dialects.replies import SenderReply
from receiver.envelope import Bundle
from receiver.errors import NotVerified, Refused, Unavailable, Unreadable
from receiver.header_values import KeptBody, mark
from receiver.inbox.arrival import Arrival
from receiver.inbox.bundles import spread
from receiver.inbox.tables import State
from receiver.ingest.challenging import answer_challenge
from receiver.ingest.paths import SHOWN_OF_NAME
from receiver.ingest.source import VerifiableSource
from receiver.ingest.unhandled import tell_unhandled
from receiver.likeness import no_handler_takes
from receiver.logs.escapes import visible
from receiver.logs.repeats import Repeats
from receiver.logs.safe_text import name_of, quoted, told
from receiver.verify.request import RawHeaders, WebhookRequest
from receiver.verify.verifiers import Verified

log = Repeats(structlog.get_logger(__name__))

#: Characters of a kept header's value.
LONGEST_HEADER = 512

#: The error codes after which the decompressed bytes are verified, too.
OF_THE_BYTES = frozenset({"signature_wrong", "not_decryptable", "app_key_wrong"})

#: The one after which they are, too, because a token or a signature may stand in the body.
OF_A_PLACE = "signature_missing"


#: Seconds for one webhook, on average, after which admitting is slow.
SLOW_SECONDS = 0.1


class Request(NamedTuple):
    """A complete webhook as received."""

    source: VerifiableSource
    headers: RawHeaders
    body: bytes
    #: Path and query as they stand in its first line.
    target: bytes = b""


#: What becomes of a request: it arrives, is refused, or was a challenge.
Admitted = Arrival | Refused | SenderReply


def admit(requests: Sequence[Request], *, now: datetime | None = None) -> list[Admitted]:
    """Verify and read each request. The results stand in the same order.

    They arrive now, unless they did earlier.
    """
    now = now or datetime.now(UTC)
    began = perf_counter()
    admitted = [_admit_one(request, now) for request in requests]
    seconds = perf_counter() - began
    if seconds > SLOW_SECONDS * len(requests):
        _tell_slow(requests, seconds)
    return admitted


def _tell_slow(requests: Sequence[Request], seconds: float) -> None:
    """Log the sources of requests that took long to admit, since all other acks waited for them."""
    for name in sorted({request.source.name for request in requests}):
        log.warning(
            "verifying and reading webhooks takes long, and every ack waits for it: make the envelope function quicker",
            about={"source": name},
            seconds=round(seconds, 3),
            webhooks=len(requests),
        )


def _admit_one(request: Request, now: datetime) -> Admitted:
    try:
        reply = _unverified_reply(request) if request.source.dialect.challenges else None
        return reply or _admitted(request, now)
    except Refused as refusal:
        return refusal
    except BaseException:
        # Raised by a dialect's verifier. Even SystemExit concerns this one request only.
        verifier = name_of(request.source.dialect.verifier)
        about = {"source": request.source.name, "verifier": verifier}
        log.exception("cannot verify a webhook; its sender is asked to retry", about=about)
        return Unavailable("This cannot be verified now, because of an error here. Send it again later.")


def _unverified_reply(request: Request) -> SenderReply | None:
    """The answer to a challenge that its sender does not sign."""
    return answer_challenge(request.source, "POST", request.target, request.headers, request.body, verified=False)


def _admitted(request: Request, now: datetime) -> Arrival | SenderReply:
    """Verify the body and read its envelope. From here on the body is authentic, and is kept even if it cannot be read.

    A challenge is answered instead. Raises `NotVerified`, and what `answer_challenge` raises.
    """
    source, body = request.source, request.body
    asked = judged(request, at=now)
    verified, encrypted = _verify(source, asked)
    opened = _opened(source, verified.plain)
    plain = source.dialect.verifier.redact(opened, source.credentials)
    if type(plain) is not bytes or type(verified.secret) not in (int, NoneType):
        # A wrong result of a foreign verifier must not fail a batch that holds other webhooks.
        raise TypeError(f"the verifier of {source.dialect.name} returned {quoted(plain)}, {quoted(verified.secret)}")
    if source.dialect.challenges:
        reply = answer_challenge(source, "POST", request.target, asked.headers, plain, verified=True)
        if reply is not None:
            return reply
    # Stored as received, unless credentials were redacted from the content.
    kept = body if encrypted or plain == opened else plain
    arrival = Arrival(
        source=source.name,
        body=kept,
        plain=None if plain is kept or plain == kept else plain,
        headers=_kept(asked.headers, source.dialect.kept_headers),
        received_at=now,
        secret=verified.secret,
    )
    if source.dialect.reads_headers:
        plain = _with_headers(arrival, plain, asked, verified, source.dialect.trusts_header)
    try:
        found = source.read(plain)
        if isinstance(found, Bundle):
            return _bundled(source, arrival, found)
        arrival.know(found, from_headers=source.dialect.reads_headers)
    except Unreadable as error:
        arrival.give_up(told(error))
        _tell_unreadable(arrival)
    else:
        _ignore_unhandled(source, arrival)
    return arrival


def _with_headers(
    arrival: Arrival, plain: bytes, asked: WebhookRequest, verified: Verified, trusted: str | None
) -> KeptBody:
    """The body with the headers that its envelope may read, which the arrival keeps. Raises `NotVerified`."""
    if trusted is not None:
        # Of two values nobody knows which was meant, so the request is refused as for a repeated signature.
        asked.header(trusted)
    arrival.headers = mark(arrival.headers, verified.signed, trusted)
    return KeptBody.of(plain, arrival.headers)


def _bundled(source: VerifiableSource, arrival: Arrival, bundle: Bundle) -> Arrival:
    """The arrival of a body that tells of several events, with each of them."""
    spread(arrival, bundle)
    for each in arrival.each():
        if each.state is State.PENDING:
            _ignore_unhandled(source, each)
        elif each.state is State.DEAD:
            _tell_unreadable(each)
    return arrival


def _ignore_unhandled(source: VerifiableSource, arrival: Arrival) -> None:
    if source.dialect.handler_for(arrival.event_type) is None:
        arrival.ignore(no_handler_takes(arrival.event_type, source.dialect.event_types))
        tell_unhandled(source, arrival.event_type)


def _tell_unreadable(arrival: Arrival) -> None:
    log.warning("kept a webhook that cannot be read", about={"source": arrival.source}, reason=arrival.reason)


def judged(request: Request, *, at: datetime) -> WebhookRequest:
    """The request as a verifier gets it; `at` is its arrival."""
    public_url = request.source.credentials.public_url
    return WebhookRequest(request.body, _trimmed(request.headers), target=request.target, public_url=public_url, at=at)


def _verify(source: VerifiableSource, request: WebhookRequest) -> tuple[Verified, bool]:
    """Verify the body as received, or else decompressed; return the authentic content, and whether it was encrypted.

    Raises `NotVerified`.
    """
    verifier = source.dialect.verifier
    try:
        verified = verifier.verify(request, source.credentials)
        return verified, verified.plain is not request.body
    except NotVerified as refusal:
        if refusal.code not in OF_THE_BYTES and refusal.code != OF_A_PLACE:
            raise
        opened = _opened(source, request.body)
        if opened is request.body:
            if refusal.code in OF_THE_BYTES:
                _tell_compressed(request.headers, request.body, refusal)
            raise
    verified = verifier.verify(replace(request, body=opened), source.credentials)
    return verified, verified.plain is not opened


def _opened(source: VerifiableSource, content: bytes) -> bytes:
    """Decompress the content if the dialect allows it and it is undamaged; reading reports damage later."""
    try:
        return source.open(content)
    except Unreadable:
        return content


def _tell_compressed(headers: RawHeaders, body: bytes, refusal: NotVerified) -> None:
    """Raise `NotVerified` with the code `body_compressed` if the unverified body is compressed."""
    codings = [value.decode("latin-1")[:SHOWN_OF_NAME] for name, value in headers if name == b"content-encoding"]
    named = [coding for coding in codings if coding.lower() not in ("", "identity")]
    if named or is_compressed(body):
        raise NotVerified(
            "body_compressed",
            f"{refusal.message} It came compressed ({visible(', '.join(named)) or 'without a Content-Encoding'}): "
            "sign the bytes that are sent, or send it uncompressed. A dialect with decompress=True takes gzip.",
        ) from None


def _trimmed(headers: RawHeaders) -> RawHeaders:
    """Strip blanks and tabs around header values, which are not part of them (RFC 9110, section 5.5)."""
    return [(name, value.strip(b" \t")) for name, value in headers]


def _kept(headers: RawHeaders, names: Mapping[bytes, str]) -> dict[str, str]:
    kept = {}
    for name, value in headers:
        if name in names:
            text = value[:LONGEST_HEADER].decode("latin-1")
            # Nearly all are ASCII, and a call for each of them would cost as much as the rest.
            kept[names[name]] = text if text.isascii() and "\0" not in text else storable(text)
    return kept
