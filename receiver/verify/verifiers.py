"""Verifiers: the interface by which a dialect proves that a request is authentic, and the credentials for that.

Verifying and signing do no I/O and read no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from receiver.errors import NotVerified
from receiver.verify.request import NotingRequest, WebhookRequest

NAMED_SECRET = "its dialect knows no webhook records: move `webhook_secrets` into `secrets`"  # noqa: S105 (a message)

EMPTY_SECRET = "one of its secrets is empty, so that a stranger could sign: set it, or remove it"  # noqa: S105 (a message)


@dataclass(frozen=True, slots=True)
class Secret:
    """One secret of a source. `name` is the sender's webhook record that it belongs to, if each has its own secret."""

    value: bytes = field(repr=False)
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The settings of a source that a verifier uses."""

    #: The secrets, newest first. Each of them verifies, so that a secret can be rotated without losing a webhook.
    secrets: tuple[Secret, ...] = ()
    #: Whether bodies without a signature are accepted, for senders that sign only if a secret was set.
    allow_unsigned: bool = False
    #: The application key that the body must hold, for senders that encrypt instead of signing.
    app_key: str | None = field(default=None, repr=False)
    #: The name of the cipher layout, for senders that encrypt.
    cipher: str = "auto"
    #: The address of the source as its sender knows it; empty if the settings do not give it.
    public_url: str = ""
    #: The marks of the secrets, in their order (`receiver.verify.secret_marks`); empty without a `secret_key`.
    #: They count uses and change nothing about what is accepted, so that equality leaves them out.
    marks: tuple[str, ...] = field(default=(), compare=False)
    #: The marks by each older `secret_key` that is still in the settings, the newest of them first.
    former_marks: tuple[tuple[str, ...], ...] = field(default=(), compare=False)
    #: The dialect's own settings as its model; None if the dialect declares none.
    own: Any = field(default=None, repr=False)

    @property
    def unused_without_encryption(self) -> str | None:
        """An error message for a setting that only encrypting senders need; None if there is no such setting."""
        for name, is_set in (("app_key", self.app_key is not None), ("cipher", self.cipher != "auto")):
            if is_set:
                return f"`{name}` is for encrypted bodies, and its dialect takes none: remove it"
        return None

    @property
    def has_names(self) -> bool:
        """Whether a secret is tied to one of the sender's webhook records."""
        return any(secret.name is not None for secret in self.secrets)

    @property
    def has_empty_secret(self) -> bool:
        """Whether a secret is blank, for example from an unset variable: a stranger could sign with it."""
        return any(not secret.value.strip() for secret in self.secrets)


def hinted_order(secrets: Sequence[Secret], hint: Callable[[bytes], str | None] | None, body: bytes) -> Sequence[int]:
    """The positions of the secrets in the order in which they are tried: first those that the hint names."""
    if hint is None:
        return range(len(secrets))
    name = hint(body)
    return sorted(range(len(secrets)), key=lambda position: secrets[position].name != name)


class Verified(NamedTuple):
    """An authentic body. `plain` is the content to read: the body itself, or the decrypted body."""

    plain: bytes
    #: The position in `Credentials.secrets` of the secret that verified; None for an unsigned body.
    secret: int | None
    #: The names, in lower case, of the headers that the signature covers.
    signed: frozenset[str] = frozenset()


class Verifier(Protocol):
    """Proves that a body comes from its source. A subclass may leave out `redact` and `prepare`."""

    def check(self, credentials: Credentials) -> str | None:
        """Check the credentials. Returns an error message, or None if a source can start with them."""

    def verify(self, request: WebhookRequest, credentials: Credentials) -> Verified:
        """Verify the request and return its authentic body. Raises `NotVerified`."""

    def redact(self, plain: bytes, credentials: Credentials) -> bytes:  # noqa: ARG002 (a default)
        """Remove credentials from a verified body, so that it may be stored."""
        return plain

    def prepare(self, body: bytes, credentials: Credentials) -> bytes:  # noqa: ARG002 (a default)
        """Add the members that these credentials require to a body, before it is signed."""
        return body

    def sign(self, request: WebhookRequest, credentials: Credentials) -> tuple[bytes, dict[str, str]]:
        """Sign like the sender. Returns the body as it is sent, and the headers to send with it."""


def secret_headers(verifier: Verifier) -> frozenset[str]:
    """The headers, in lower case, that hold a secret itself and therefore must not be kept."""
    return frozenset(name.lower() for name in getattr(verifier, "secret_headers", ()))


def signature_headers(verifier: Verifier) -> tuple[str, ...] | None:
    """The headers, in lower case, that a verifier needs to verify a request again.

    None for a verifier that does not name them: its headers may hold a secret, such as a token, and must not be kept.
    """
    named: tuple[str, ...] | None = getattr(verifier, "signature_headers", None)
    return None if named is None else tuple(name.lower() for name in named)


def listed_headers(verifier: Verifier, request: WebhookRequest) -> frozenset[str]:
    """The headers, in lower case, that this request lists as signed, besides those in `signature_headers`.

    Empty for a verifier without such a list. Raises what the verifier's `listed_headers` raises.
    """
    listed: Callable[[WebhookRequest], Iterable[str]] | None = getattr(verifier, "listed_headers", None)
    names = frozenset() if listed is None else frozenset(name.lower() for name in listed(request))
    return names.difference(signature_headers(verifier) or ())


def reads_target(verifier: Verifier, request: WebhookRequest, credentials: Credentials) -> bool:
    """Whether verifying this request depends on its path and query, which its sender may have signed.

    Raises what the verifier raises, except `NotVerified`.
    """
    noting = NotingRequest(
        request.body,
        request.headers,
        method=request.method,
        target=request.target,
        public_url=request.public_url,
        at=request.at,
    )
    with suppress(NotVerified):
        verifier.verify(noting, credentials)
    return noting.target_was_read


def headers_made_anew(verifier: Verifier) -> frozenset[str]:
    """The headers with the signature and its time, in lower case, which are made again when a request is sent again."""
    place, fresh = getattr(verifier, "at", None), getattr(verifier, "fresh", None)
    if place is None:
        return frozenset(signature_headers(verifier) or ())
    time = () if fresh is None or fresh.stands_in.kind != "header" else (fresh.stands_in.name,)
    return frozenset(name.lower() for name in (*place.headers, *time))
