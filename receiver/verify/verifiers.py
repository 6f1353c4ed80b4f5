"""Verifiers: what a dialect's proof must offer, and the credentials that it works with.

Verifying and signing do no I/O and read no clock: a request comes in, a verdict comes out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from receiver.verify.request import WebhookRequest

NAMED_SECRET = "its dialect does not tell webhook records apart: move `webhook_secrets` into `secrets`"  # noqa: S105 (a message)

EMPTY_SECRET = "one of its secrets is empty, so that anybody could sign: set it, or remove it"  # noqa: S105 (a message)


@dataclass(frozen=True, slots=True)
class Secret:
    """One secret of a source. `name` ties it to one of the sender's webhook records, where each has its own."""

    value: bytes = field(repr=False)
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The settings of a source that a verifier uses."""

    #: Newest first; every one of them verifies, so that a secret can be rotated without losing a webhook.
    secrets: tuple[Secret, ...] = ()
    #: Take bodies without a signature, for senders that sign only when a secret was set.
    allow_unsigned: bool = False
    #: The application key that must stand inside the body, for senders that encrypt instead of signing.
    app_key: str | None = field(default=None, repr=False)
    #: The name of the cipher layout, for senders that encrypt.
    cipher: str = "auto"
    #: The address of the source as its sender knows it; empty if the settings do not say it.
    public_url: str = ""
    #: The settings that only the dialect knows, as its own model; None if it declares none.
    own: Any = field(default=None, repr=False)

    @property
    def unused_without_encryption(self) -> str | None:
        """An error message for a setting without effect on a sender that does not encrypt; None if all is well."""
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
        """Whether a secret is blank, as a template leaves it whose variable was not set: anybody could sign with it."""
        return any(not secret.value.strip() for secret in self.secrets)


class Verified(NamedTuple):
    """An authentic body. `plain` is what to read: the body itself, or what it decrypts to."""

    plain: bytes
    #: The position in `Credentials.secrets` of the one that verified; None for an unsigned body.
    secret: int | None
    #: The names, in lower case, of the headers that the signature covers.
    signed: frozenset[str] = frozenset()


class Verifier(Protocol):
    """How a dialect proves that a body comes from its source. A subclass may leave out `redact` and `prepare`."""

    def check(self, credentials: Credentials) -> str | None:
        """An error message about these credentials; None if a source can start with them."""

    def verify(self, request: WebhookRequest, credentials: Credentials) -> Verified:
        """The authentic body. Raises `NotVerified`."""

    def redact(self, plain: bytes, credentials: Credentials) -> bytes:  # noqa: ARG002 (a default)
        """The verified body as it may be stored: without the credentials that it may hold, if it holds any."""
        return plain

    def prepare(self, body: bytes, credentials: Credentials) -> bytes:  # noqa: ARG002 (a default)
        """A composed or copied body with the members that these credentials require, ready to be signed."""
        return body

    def sign(self, request: WebhookRequest, credentials: Credentials) -> tuple[bytes, dict[str, str]]:
        """The body as it goes over the wire, and the headers to send with it: the sender's side."""


def secret_headers(verifier: Verifier) -> frozenset[str]:
    """The headers, in lower case, that hold a secret as it is, so that they must not be kept."""
    return frozenset(name.lower() for name in getattr(verifier, "secret_headers", ()))


def signature_headers(verifier: Verifier) -> tuple[str, ...] | None:
    """The headers that a verifier needs to verify a request again, in lower case, if it names them.

    None for one that does not name them: its headers may hold a secret, such as a token, and must not be kept.
    """
    named: tuple[str, ...] | None = getattr(verifier, "signature_headers", None)
    return None if named is None else tuple(name.lower() for name in named)


def headers_made_anew(verifier: Verifier) -> frozenset[str]:
    """The headers with the signature and its time, in lower case, which a request that is sent again must not keep."""
    place, fresh = getattr(verifier, "at", None), getattr(verifier, "fresh", None)
    if place is None:
        return frozenset(signature_headers(verifier) or ())
    time = () if fresh is None or fresh.stands_in.kind != "header" else (fresh.stands_in.name,)
    return frozenset(name.lower() for name in (*place.headers, *time))
