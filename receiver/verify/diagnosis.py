"""Diagnosis: why a signature may be wrong, found by trying the mistakes that people make. Slow, and for logs only."""

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

#: Bytes of a body that is encoded again: a larger one would take long.
LARGEST_REENCODED = 262_144

#: Secrets that are tried in each way.
MOST_TRIED = 16


def likely_mistake(
    verifier: Verifier, request: WebhookRequest, credentials: Credentials, others: Mapping[str, Credentials]
) -> str | None:
    """The mistake with which the signature would be right, as a sentence; None if none of the known ones is it.

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
    except Exception:
        # A verifier may expect secrets of another form.
        return False
    return True


# ── secrets ───────────────────────────────────────────────────────────────────────────────────────────────────


def _with_other_secrets(credentials: Credentials) -> Iterator[tuple[str, tuple[Secret, ...]]]:
    ways: list[tuple[str, Callable[[bytes], bytes]]] = [
        ("It fits with a secret without the blanks around it: remove them in the settings.", bytes.strip),
        ("It fits with a secret without `v1,` at its beginning: remove that.", _without(b"v1,")),
        ("It fits with a secret without `whsec_` at its beginning, as text: remove that.", _without(b"whsec_")),
        (
            "It fits with a secret decoded from base64, which this dialect takes as it is written.",
            lambda value: b64decode(value.strip().removeprefix(b"whsec_"), validate=True),
        ),
        (
            "It fits with a secret decoded from hexadecimal digits, which this dialect takes as written.",
            unhexlify,
        ),
        ("It fits with a secret taken as it is written, which this dialect decodes from base64.", b64encode),
        ("It fits with a secret taken as it is written, which this dialect decodes from hexadecimal digits.", hexlify),
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
    line_end = "It fits the body {}: something between the sender and here changed the end of the body."
    yield line_end.format("without the line end behind it"), body.rstrip(b"\r\n")
    yield line_end.format("with a line end behind it"), body + b"\n"
    yield (
        "It fits the body without the byte order mark before it: the sender must sign what it sends.",
        body.removeprefix(b"\xef\xbb\xbf"),
    )
    if len(body) > LARGEST_REENCODED:
        return
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return
    says = (
        "It fits the body decoded and encoded again: a proxy, a framework or the sender itself changes the bytes after "
        "or before they are signed. What is signed must be what is sent."
    )
    for separators in ((",", ":"), (", ", ": ")):
        for ascii_alone in (False, True):
            for slashes in (False, True):
                yield says, _encoded(document, separators, ascii_alone=ascii_alone, slashes=slashes)


def _encoded(document: Any, separators: tuple[str, str], *, ascii_alone: bool, slashes: bool) -> bytes:
    """JSON as most languages write it; with `slashes`, as PHP does."""
    try:
        text = json.dumps(document, separators=separators, ensure_ascii=ascii_alone)
    except (ValueError, RecursionError):
        return b""
    return (text.replace("/", "\\/") if slashes else text).encode("utf-8", "replace")
