"""Diagnosis: tries the usual mistakes to explain a wrong signature. It is slow, and its result is for logs only."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from binascii import hexlify, unhexlify
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import Any, Literal
from urllib.parse import urlsplit

from receiver.errors import HookmirrorError, NotVerified
from receiver.http_urls import shown_url, url_flaw, without_port
from receiver.verify.algorithms import DIGESTS
from receiver.verify.composed import Signature
from receiver.verify.encodings import ENCODINGS
from receiver.verify.request import WebhookRequest, only_header, wire_text
from receiver.verify.signatures import HmacSha256
from receiver.verify.verifiers import Credentials, Secret, Verifier

#: The largest body, in bytes, that is encoded again: a larger one would take too long.
LARGEST_REENCODED = 262_144

#: The units of a signed time.
UNITS: tuple[Literal["seconds", "milliseconds", "iso"], ...] = ("seconds", "milliseconds", "iso")

#: The largest age at which a time in another unit is plausible. A time in a wrong unit is decades away.
PLAUSIBLE_AGE = timedelta(days=3650)

#: The most secrets that are tried for each mistake.
MOST_TRIED = 16


def likely_mistake(
    verifier: Verifier, request: WebhookRequest, credentials: Credentials, others: Mapping[str, Credentials]
) -> str | None:
    """Find the mistake that explains the wrong signature, as a sentence; None if no known mistake does.

    `others` are the credentials of other sources, by name.
    """
    for says, changed in _with_other_secrets(credentials):
        if changed and _fits(verifier, request, replace(credentials, secrets=changed)):
            return says
    for says, body in _with_other_bodies(request.body):
        if body != request.body and _fits(verifier, replace(request, body=body), credentials):
            return says
    for url in _other_urls(request):
        if _fits(verifier, replace(request, public_url=url), credentials):
            says = f"It fits with the URL {shown_url(url)}"
            return f"{says}: set `registered_url` of the source to it, or correct `public_url`."
    for name, each in others.items():
        if each.secrets and _fits(verifier, request, replace(credentials, secrets=each.secrets[:MOST_TRIED])):
            return f"It fits with a secret of the source {name}: compare the URLs at the sender with the sources."
    return None


def likely_form(verifier: Verifier, request: WebhookRequest, credentials: Credentials) -> str | None:
    """Find the form of the time or of the signature that differs from the dialect's, as a sentence; None if none does.

    For a request with a stale time, or with a signature that is not well formed.
    """
    try:
        if isinstance(verifier, Signature):
            return _other_unit(verifier, request, credentials) or _other_digest(verifier, request)
        return _other_digest(verifier, request) if isinstance(verifier, HmacSha256) else None
    except BaseException:
        # A signed text and a place of a dialect's own may raise anything, and this is only a hint.
        return None


def _fits(verifier: Verifier, request: WebhookRequest, credentials: Credentials) -> bool:
    try:
        return _is_right(verifier, request, credentials)
    except BaseException:
        # A verifier may raise for a secret of another form than its own, and one of a dialect's may raise anything. So
        # may a refusal of a dialect's own class.
        return False


def _is_right(verifier: Verifier, request: WebhookRequest, credentials: Credentials) -> bool:
    try:
        verifier.verify(request, credentials)
    except NotVerified as refusal:
        return refusal.code == "signature_stale"
    return True


# ── secrets ───────────────────────────────────────────────────────────────────────────────────────────────────


def _with_other_secrets(credentials: Credentials) -> Iterator[tuple[str, tuple[Secret, ...]]]:
    ways: list[tuple[str, Callable[[bytes], bytes]]] = [
        ("It fits with a secret without the blanks around it: remove them in the settings.", bytes.strip),
        (
            "It fits with a secret and a line end behind it: the sender has read the secret with the end of its line.",
            lambda value: value + b"\n",
        ),
        ("It fits with a secret without `v1,` at its beginning: remove that.", _without(b"v1,")),
        ("It fits with a secret without `whsec_` at its beginning, as text: remove that.", _without(b"whsec_")),
        (
            "It fits with a secret decoded from base64, while this dialect takes the secret as written.",
            lambda value: b64decode(value.strip().removeprefix(b"whsec_"), validate=True),
        ),
        (
            "It fits with a secret decoded from hexadecimal digits, while this dialect takes the secret as written.",
            unhexlify,
        ),
        ("It fits with a secret taken as written, while this dialect decodes the secret from base64.", b64encode),
        (
            "It fits with a secret taken as written, while this dialect decodes the secret from hexadecimal digits.",
            hexlify,
        ),
    ]
    for says, way in ways:
        yield says, tuple(_changed(credentials.secrets[:MOST_TRIED], way))


def _changed(secrets: tuple[Secret, ...], way: Callable[[bytes], bytes]) -> Iterator[Secret]:
    for secret in secrets:
        try:
            value = way(secret.value)
        except ValueError:
            continue
        if value and value != secret.value:
            yield Secret(value, secret.name)


def _without(beginning: bytes) -> Callable[[bytes], bytes]:
    return lambda value: value.strip().removeprefix(beginning)


# ── URLs ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _other_urls(request: WebhookRequest) -> Iterator[str]:
    """The addresses that the sender may know instead of `public_url`: with another scheme, host, port or path.

    `Host` may be wrong, but only a sender with the secret can make a signature fit.
    """
    if not request.public_url:
        return
    known = urlsplit(request.public_url)
    named = next((value.decode("latin-1") for name, value in request.headers if name == b"host"), "")
    path = request.target.partition(b"?")[0].decode("latin-1")
    hosts = {each: None for netloc in (known.netloc, named) for each in _with_other_ports(netloc) if each}
    for scheme, host, each in product(("https", "http"), hosts, dict.fromkeys((known.path, path))):
        url = f"{scheme}://{host}{each}"
        if url != request.public_url and url_flaw(url) is None:
            yield url


def _with_other_ports(netloc: str) -> tuple[str, ...]:
    bare = without_port(netloc)
    return netloc, bare, f"{bare}:443", f"{bare}:80"


# ── bodies ────────────────────────────────────────────────────────────────────────────────────────────────────


def _with_other_bodies(body: bytes) -> Iterator[tuple[str, bytes]]:
    line_end = "It fits the body {}: a proxy between the sender and this server may have changed the end of the body."
    yield line_end.format("without its last line end"), body.rstrip(b"\r\n")
    yield line_end.format("with a further line end"), body + b"\n"
    yield (
        "It fits the body without its byte order mark: the sender must sign the exact bytes that it sends.",
        body.removeprefix(b"\xef\xbb\xbf"),
    )
    if len(body) > LARGEST_REENCODED:
        return
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return
    says = (
        "It fits the body decoded and encoded again: a proxy, a framework or the sender itself changes the bytes "
        "before or after signing. The sender must sign the exact bytes that are sent."
    )
    for separators in ((",", ":"), (", ", ": ")):
        for ascii_alone in (False, True):
            for slashes in (False, True):
                yield says, _encoded(document, separators, ascii_alone=ascii_alone, slashes=slashes)


def _encoded(document: Any, separators: tuple[str, str], *, ascii_alone: bool, slashes: bool) -> bytes:
    """Encode as JSON the way most languages do, or with `slashes` the way PHP does, which escapes slashes."""
    try:
        text = json.dumps(document, separators=separators, ensure_ascii=ascii_alone)
    except (ValueError, RecursionError):
        return b""
    return (text.replace("/", "\\/") if slashes else text).encode("utf-8", "replace")


# ── forms ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _other_unit(verifier: Signature, request: WebhookRequest, credentials: Credentials) -> str | None:
    """Find the unit in which the signed time is plausible, for a signature that is right."""
    fresh = verifier.fresh
    for unit in UNITS:
        if fresh is None or unit == fresh.unit:
            continue
        other = replace(verifier, fresh=replace(fresh, unit=unit, within=PLAUSIBLE_AGE))
        try:
            other.verify(request, replace(credentials, secrets=credentials.secrets[:MOST_TRIED]))
        except (HookmirrorError, ValueError):
            continue
        shown = "ISO 8601" if unit == "iso" else unit
        return f'The signature is right, and its time looks like {shown}: set unit="{unit}" in Fresh({fresh.time!r}).'
    return None


def _other_digest(verifier: Signature | HmacSha256, request: WebhookRequest) -> str | None:
    """Find the encoding and the algorithm that make a signature of this length."""
    if isinstance(verifier, Signature):
        own, written = verifier.by, verifier.written
        if own not in DIGESTS:
            return None
    else:
        own, written = "hmac_sha256", verifier.encoding
    size = DIGESTS[own][1]
    for signature in _signatures(verifier, request)[:MOST_TRIED]:
        for encoding in sorted(ENCODINGS, key=lambda name: name != written):
            try:
                found = len(ENCODINGS[encoding].read(signature))
            except ValueError:
                continue
            by = next((name for name, (_, length) in DIGESTS.items() if length == found), None)
            if by is None or (encoding, found) == (written, size):
                continue
            changes = [f'by="{by}"'] if found != size else []
            changes += [f'written="{encoding}"'] if encoding != written else []
            return (
                f"The signature decodes from {encoding} to {found} bytes, the length that {by} makes, while {own} in "
                f"{written} is expected, with {size} bytes: compare the sender's documentation, and set "
                f"{' and '.join(changes)} in a Signature."
            )
    return None


def _signatures(verifier: Signature | HmacSha256, request: WebhookRequest) -> list[bytes]:
    """The signatures of a request, without the text before them."""
    try:
        if isinstance(verifier, HmacSha256):
            value = only_header(request.headers, verifier.header)
            return [] if value is None else [value.removeprefix(wire_text(verifier.prefix))]
        found = verifier.at.find(request, dict(request.headers))
    except NotVerified:
        return []
    return [] if found is None else found[0]
