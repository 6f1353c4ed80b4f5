"""Diagnosis: tries the usual mistakes to explain a wrong signature. It is slow, and its result is for logs only."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from binascii import hexlify, unhexlify
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from receiver.errors import NotVerified
from receiver.verify.request import WebhookRequest
from receiver.verify.verifiers import Credentials, Secret, Verifier

#: The largest body, in bytes, that is encoded again: a larger one would take too long.
LARGEST_REENCODED = 262_144

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
    for name, each in others.items():
        if each.secrets and _fits(verifier, request, replace(credentials, secrets=each.secrets[:MOST_TRIED])):
            return f"It fits with a secret of the source {name}: compare the URLs at the sender with the sources."
    return None


def _fits(verifier: Verifier, request: WebhookRequest, credentials: Credentials) -> bool:
    try:
        verifier.verify(request, credentials)
    except NotVerified as refusal:
        return refusal.code == "signature_stale"
    except BaseException:
        # A verifier may raise for a secret of another form than its own, and one of a dialect's may raise anything.
        return False
    return True


# ── secrets ───────────────────────────────────────────────────────────────────────────────────────────────────


def _with_other_secrets(credentials: Credentials) -> Iterator[tuple[str, tuple[Secret, ...]]]:
    ways: list[tuple[str, Callable[[bytes], bytes]]] = [
        ("It fits with a secret without the blanks around it: remove them in the settings.", bytes.strip),
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
