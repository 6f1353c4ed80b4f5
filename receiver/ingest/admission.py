"""Admission: verifies requests, and reads their envelopes into arrivals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from time import perf_counter
from types import NoneType

import structlog
from msgspec import Struct

from receiver.codec import storable
from receiver.dialects.compression import is_compressed
from receiver.dialects.forks import FORKS, end_fork
from receiver.dialects.replies import SenderReply
from receiver.envelope import Bundle
from receiver.errors import NotVerified, Refused, Unavailable, Unreadable
from receiver.header_values import KeptBody, mark
from receiver.inbox.arrival import Arrival
from receiver.inbox.bundles import spread
from receiver.inbox.tables import State
from receiver.ingest.challenging import answer_challenge, check_signed_text
from receiver.ingest.paths import SHOWN_OF_NAME
from receiver.ingest.refused import in_our_words
from receiver.ingest.source import VerifiableSource
from receiver.ingest.unhandled import tell_unhandled
from receiver.likeness import no_handler_takes
from receiver.logs.escapes import visible
from receiver.logs.repeats import Repeats
from receiver.logs.safe_text import name_of, quoted, sentence, told, told_with_type
from receiver.verify.request import RawHeaders, WebhookRequest
from receiver.verify.secret_marks import mark_of
from receiver.verify.verifiers import Verified

log = Repeats(structlog.get_logger(__name__))

#: The most characters of a kept header's value.
LONGEST_HEADER = 512

#: The error codes after which the decompressed body is verified, too.
OF_THE_BYTES = frozenset({"signature_wrong", "not_decryptable", "app_key_wrong"})

#: The error code after which it is verified, too, if the token or signature may be in the body.
OF_A_PLACE = "signature_missing"


#: The characters that may surround the value of a header, and the last of those that are not shown, blanks among them.
BLANKS, SPACE = b" \t", ord(" ")

#: Seconds per webhook, on average, above which admission counts as slow.
SLOW_SECONDS = 0.1


class Request(Struct, frozen=True):
    """A complete webhook as received."""

    source: VerifiableSource
    headers: RawHeaders
    body: bytes
    #: Path and query of the request line.
    target: bytes = b""


#: The result of admission: an arrival, a refusal, or the answer to a challenge.
Admitted = Arrival | Refused | SenderReply


def admit(requests: Sequence[Request], *, now: datetime | None = None) -> list[Admitted]:
    """Verify and read each request, and return the results in the same order.

    `now` is the time of arrival; the present time by default.
    """
    now = now or datetime.now(UTC)
    began, forks = perf_counter(), FORKS.number
    admitted = [_admit_one(request, now) for request in requests]
    if FORKS.number != forks:
        end_fork()
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
        try:
            reply = _unverified_reply(request) if request.source.dialect.challenges else None
            return reply or _admitted(request, now)
        except Refused as refusal:
            return in_our_words(refusal, request.source)
    except MemoryError:
        about = {"source": request.source.name}
        log.exception("not enough memory to read a webhook; its sender is asked to retry", about=about)
        return Unavailable("There is not enough memory for this now. Send it again later.")
    except BaseException:
        # The verifier of a dialect may raise any error; even SystemExit may affect only this request.
        verifier = name_of(request.source.dialect.verifier)
        about = {"source": request.source.name, "verifier": verifier}
        log.exception(
            "cannot verify a webhook, because the verifier raised another error than NotVerified; its sender is asked "
            "to retry: correct the verifier, and let it raise NotVerified for a wrong request",
            about=about,
        )
        return Unavailable("This cannot be verified now, because of an error of this server. Send it again later.")


def _unverified_reply(request: Request) -> SenderReply | None:
    """Answer a challenge that its sender does not sign; None for any other request."""
    return answer_challenge(request.source, "POST", request.target, request.headers, request.body, verified=False)


def _admitted(request: Request, now: datetime) -> Arrival | SenderReply:
    """Verify the body and read its envelope. An authentic body is kept even if it cannot be read.

    For a challenge, returns the answer instead. Raises `NotVerified`, and the errors of `answer_challenge`.
    """
    source, body = request.source, request.body
    dialect, credentials = source.dialect, source.credentials
    webhook = webhook_request(request, at=now)
    verified, encrypted = _verify(source, webhook)
    opened = _opened(source, verified.plain) if dialect.decompress else verified.plain
    plain = dialect.verifier.redact(opened, credentials)
    if type(plain) is not bytes or type(verified.secret) not in (int, NoneType):
        # A wrong result of a dialect's verifier must not fail the other webhooks of the batch.
        raise TypeError(f"the verifier of {dialect.name} returned {quoted(plain)}, {quoted(verified.secret)}")
    if dialect.challenges:
        if verified.secret is not None and not encrypted:
            # What was signed is the body as it was received, or decompressed.
            check_signed_text(source, body)
            check_signed_text(source, opened)
        reply = answer_challenge(source, "POST", request.target, webhook.headers, plain, verified=True)
        if reply is not None:
            return reply
    # Stored as received, unless credentials were redacted from the content.
    kept = body if encrypted or plain == opened else plain
    arrival = Arrival(
        source=source.name,
        body=kept,
        plain=None if plain is kept or plain == kept else plain,
        headers=_kept(webhook.headers, dialect.kept_headers),
        received_at=now,
        secret=verified.secret,
        mark=mark_of(credentials, verified.secret),
    )
    if dialect.reads_headers:
        plain = _with_headers(arrival, plain, webhook, verified, dialect.trusts_header)
    return _read_into(arrival, source, plain)


def _read_into(arrival: Arrival, source: VerifiableSource, plain: bytes) -> Arrival:
    """Complete the arrival by the envelope of its body, or keep it as unreadable."""
    try:
        found = source.read(plain)
        if isinstance(found, Bundle):
            return _bundled(source, arrival, found)
        arrival.know(found, from_headers=source.dialect.reads_headers)
        _ignore_unhandled(source, arrival)
    except MemoryError:
        # It says nothing about the body, so the sender is asked to retry.
        raise
    except Unreadable as error:
        arrival.give_up(told(error))
        _tell_unreadable(arrival)
    except Exception as error:
        # The body is authentic, so it is kept, whatever is wrong with the values that were read from it.
        arrival.give_up(f"Its envelope cannot be used: {sentence(told_with_type(error))}")
        log.exception("kept a webhook whose envelope cannot be used", about={"source": arrival.source})
    return arrival


def _with_headers(
    arrival: Arrival, plain: bytes, webhook: WebhookRequest, verified: Verified, trusted: str | None
) -> KeptBody:
    """Combine the body with the headers that the envelope reads, and add these to the arrival. Raises `NotVerified`."""
    if trusted is not None:
        # The right one of two values is unknown, so the request is refused like one with a repeated signature.
        webhook.header(trusted)
    arrival.headers = mark(arrival.headers, verified.signed, trusted)
    return KeptBody.of(plain, arrival.headers)


def _bundled(source: VerifiableSource, arrival: Arrival, bundle: Bundle) -> Arrival:
    """Complete the arrival of a body with several events by their envelopes."""
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


def webhook_request(request: Request, *, at: datetime) -> WebhookRequest:
    """Convert the request into the value that a verifier takes; `at` is the time of arrival."""
    public_url = request.source.credentials.public_url
    return WebhookRequest(request.body, _trimmed(request.headers), target=request.target, public_url=public_url, at=at)


def _verify(source: VerifiableSource, request: WebhookRequest) -> tuple[Verified, bool]:
    """Verify the body as received, then decompressed; return the authentic content, and whether it was encrypted.

    Raises `NotVerified`.
    """
    verifier = source.dialect.verifier
    try:
        verified = verifier.verify(request, source.credentials)
        return verified, verified.plain is not request.body
    except NotVerified as error:
        refusal = in_our_words(error, source)
        if refusal.code not in OF_THE_BYTES and refusal.code != OF_A_PLACE:
            raise refusal from None
        opened = _opened(source, request.body)
        if opened is request.body:
            if refusal.code in OF_THE_BYTES:
                _tell_compressed(request.headers, request.body, refusal)
            raise refusal from None
    verified = verifier.verify(replace(request, body=opened), source.credentials)
    return verified, verified.plain is not opened


def _opened(source: VerifiableSource, content: bytes) -> bytes:
    """Decompress the content if the dialect allows it; damaged content is returned as it is, and reading reports it."""
    try:
        return source.open(content)
    except Unreadable:
        return content


def _tell_compressed(headers: RawHeaders, body: bytes, refusal: Refused) -> None:
    """Raise `NotVerified` with the code `body_compressed` if the unverified body is compressed."""
    codings = [value.decode("latin-1")[:SHOWN_OF_NAME] for name, value in headers if name == b"content-encoding"]
    named = [coding for coding in codings if coding.lower() not in ("", "identity")]
    if named or is_compressed(body):
        raise NotVerified(
            "body_compressed",
            f"{refusal.message} It came compressed ({visible(', '.join(named)) or 'without a Content-Encoding'}): "
            "sign the bytes that are sent, or send it uncompressed. A dialect with decompress=True accepts gzip.",
        ) from None


def _trimmed(headers: RawHeaders) -> RawHeaders:
    """Strip blanks and tabs around header values, which do not belong to the values (RFC 9110, section 5.5)."""
    for _, value in headers:
        if value and (value[0] <= SPACE or value[-1] <= SPACE):
            return [(name, value.strip(BLANKS)) for name, value in headers]
    return headers


def _kept(headers: RawHeaders, names: Mapping[bytes, str]) -> dict[str, str]:
    kept = {}
    for name, value in headers:
        if name in names:
            text = value[:LONGEST_HEADER].decode("latin-1")
            # Nearly all values are ASCII, and calling a function for each would take as long as everything else here.
            kept[names[name]] = text if text.isascii() and "\0" not in text else storable(text)
    return kept
