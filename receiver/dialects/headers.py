"""Kept headers: the request headers kept with every delivery, those that a dialect names, and those of captures."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from urllib.parse import unquote_plus

from receiver.errors import WiringError
from receiver.logs.safe_text import quoted
from receiver.verify.request import RawHeaders
from receiver.verify.verifiers import Verifier, headers_made_anew

#: Headers kept for every dialect, because they show how a webhook was sent.
USUAL_HEADERS = ("content-type", "content-encoding", "user-agent", "x-request-id")

#: Headers that carry secrets and must not be kept, because kept headers are shown to people.
NEVER_KEPT = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})

#: The most headers of one captured request, and the most bytes of their values together.
MOST_CAPTURED_HEADERS, MOST_CAPTURED_BYTES = 60, 16_384

#: The text that is kept in place of a value that may be a secret.
HIDDEN_VALUE = "(hidden)"

#: Headers that describe the connection and not the webhook.
_OF_THE_CONNECTION = frozenset({"connection", "content-length", "host", "keep-alive", "transfer-encoding", "upgrade"})

#: The form of a header's name (RFC 9110, section 5.6.2).
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def is_header_name(text: str) -> bool:
    """Whether a header can have this name."""
    return _NAME.fullmatch(text) is not None


#: Words in the names of headers and parameters that carry a secret itself.
SECRET_WORDS = frozenset(
    {
        *("token", "secret", "password", "key", "authorization", "cookie", "credential", "credentials"),
        *("auth", "apikey", "accesskey", "accesstoken", "authtoken", "bearer", "jwt", "passwd", "passphrase", "pwd"),
        *("session", "sessionid", "verifytoken"),
    }
)

#: Words in the names of headers that carry a signature or an id, which reveals no secret.
_NO_SECRET = frozenset({"signature", "sig", "sign", "hmac", "digest", "idempotency", "id"})


def names_secret(header: str) -> bool:
    """Whether a header of this name may carry a secret itself."""
    words = set(re.split(r"[^a-z0-9]+", header.lower()))
    return not words.isdisjoint(SECRET_WORDS) and words.isdisjoint(_NO_SECRET)


def repeatable_headers(headers: Mapping[str, str], verifier: Verifier) -> dict[str, str]:
    """The headers of a captured request to send again: without its old signature and time, and without hidden values.

    `verifier` makes the signature and the time anew.
    """
    anew = headers_made_anew(verifier)
    return {name: value for name, value in headers.items() if name.lower() not in anew and value != HIDDEN_VALUE}


def captured_target(target: bytes) -> bytes:
    """Path and query of a captured request, with the values of parameters that may be secrets hidden."""
    path, mark, query = target.partition(b"?")
    return path + mark + b"&".join(map(_shown, query.split(b"&")))


def _shown(parameter: bytes) -> bytes:
    name, equals, _ = parameter.partition(b"=")
    # A name such as `accessToken` is split into words at its capitals.
    words = re.sub("(?<=[a-z0-9])(?=[A-Z])", "-", unquote_plus(name.decode("latin-1")))
    # Azure and other senders name the key in an address `code`.
    is_secret = equals and (names_secret(words) or words.lower() == "code")
    return name + equals + HIDDEN_VALUE.encode() if is_secret else parameter


def kept_headers(names: Iterable[str], dialect: str, secret: Collection[str] = ()) -> dict[bytes, str]:
    """The names of the usual headers and of these, in lower case, by their bytes on the wire.

    Raises `WiringError` for an invalid name, and for a header that carries a secret, such as those in `secret`.
    """
    if isinstance(names, str):
        raise WiringError(f"keep_headers of the dialect {dialect} is text: write a list of names, [{names!r}].")
    kept = [*USUAL_HEADERS]
    for name in names:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise WiringError(
                f"keep_headers of the dialect {dialect} holds {quoted(name)}, which is not a header's name: "
                'write such as "X-Shop-Event".'
            )
        if name.lower() in NEVER_KEPT or name.lower() in secret:
            raise WiringError(
                f"keep_headers of the dialect {dialect} holds {name}, which carries a secret, and kept headers are "
                "shown to people: remove it."
            )
        kept.append(name.lower())
    return {name.encode(): name for name in kept}


def captured_headers(headers: RawHeaders) -> list[tuple[bytes, bytes]]:
    """The headers to keep of a captured request, within bounds, with values that may be secrets hidden."""
    kept: list[tuple[bytes, bytes]] = []
    left = MOST_CAPTURED_BYTES
    for name, value in headers[:MOST_CAPTURED_HEADERS]:
        text = name.decode("latin-1").lower()
        if text in _OF_THE_CONNECTION:
            continue
        shown = HIDDEN_VALUE.encode() if text in NEVER_KEPT or names_secret(text) else value
        left -= len(shown)
        if left < 0:
            break
        kept.append((name, shown))
    return kept
