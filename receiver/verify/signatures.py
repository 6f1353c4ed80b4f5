"""Verifying and signing bodies, without I/O or a clock: bytes and headers come in, a verdict comes out.

Every comparison is of bytes and in constant time, and every wrong header ends in `NotVerified`.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from binascii import unhexlify
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Literal, NamedTuple, Protocol

from receiver.errors import NotVerified, WiringError

#: Header names in lower case with their values as sent, one pair per header line: the shape ASGI gives.
RawHeaders = Sequence[tuple[bytes, bytes]]

SHA256_BYTES = hashlib.sha256().digest_size

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


class Verifier(Protocol):
    """How a dialect proves that a body comes from its source. A subclass may leave out `redact` and `prepare`."""

    def check(self, credentials: Credentials) -> str | None:
        """An error message about these credentials; None if a source can start with them."""

    def verify(self, body: bytes, headers: RawHeaders, credentials: Credentials) -> Verified:
        """The authentic body. Raises `NotVerified`."""

    def redact(self, plain: bytes, credentials: Credentials) -> bytes:  # noqa: ARG002 (a default)
        """The verified body as it may be stored: without the credentials that it may hold, if it holds any."""
        return plain

    def prepare(self, body: bytes, credentials: Credentials) -> bytes:  # noqa: ARG002 (a default)
        """A composed or copied body with the members that these credentials require, ready to be signed."""
        return body

    def sign(self, body: bytes, credentials: Credentials) -> tuple[bytes, dict[str, str]]:
        """The body as it goes over the wire, and the headers to send with it: the sender's side."""


def signature_headers(verifier: Verifier) -> tuple[str, ...] | None:
    """The headers that a verifier needs to verify a request again, in lower case, if it names them.

    None for one that does not name them: its headers may hold a secret, such as a token, and must not be kept.
    """
    named: tuple[str, ...] | None = getattr(verifier, "signature_headers", None)
    return None if named is None else tuple(name.lower() for name in named)


class Encoding(NamedTuple):
    """How a digest is written in a header."""

    #: The name of the form, for messages.
    form: str
    write: Callable[[bytes], str]
    #: Raises `ValueError` for text in another form.
    read: Callable[[bytes], bytes]


ENCODINGS = {
    "hex": Encoding("64 hexadecimal digits", bytes.hex, unhexlify),
    "base64": Encoding(
        "the base64 of 32 bytes", lambda digest: b64encode(digest).decode(), partial(b64decode, validate=True)
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HmacSha256(Verifier):
    """HMAC-SHA256 of the raw body in a header: as hexadecimal digits, or in `encoding="base64"`.

    `prefix` stands before them ("sha256=" with most senders); with `prefix_required` off, they are taken without it,
    too. `hint` may read the still unverified body and name the secret to try first: it decides the order, nothing else.
    """

    header: str
    prefix: str = "sha256="
    prefix_required: bool = False
    encoding: Literal["hex", "base64"] = "hex"
    hint: Callable[[bytes], str | None] | None = None

    @property
    def signature_headers(self) -> tuple[str, ...]:
        """The header that it reads. It may be kept, because a signature does not reveal the secret."""
        return (self.header,)

    def __post_init__(self) -> None:
        """Raises `WiringError` for an unknown encoding."""
        if self.encoding not in ENCODINGS:
            raise WiringError(f'HmacSha256 knows no encoding {self.encoding!r}: write "hex" or "base64".')

    def check(self, credentials: Credentials) -> str | None:
        if credentials.has_empty_secret:
            return EMPTY_SECRET
        if credentials.has_names and self.hint is None:
            return NAMED_SECRET
        if credentials.secrets or credentials.allow_unsigned:
            return credentials.unused_without_encryption
        return (
            f"it has no secret, and {self.header} cannot be verified without one: "
            'set `secrets = ["…"]` or `secrets_file`'
        )

    def verify(self, body: bytes, headers: RawHeaders, credentials: Credentials) -> Verified:
        signature = only_header(headers, self.header)
        if signature is None:
            if credentials.allow_unsigned:
                return Verified(body, None)
            raise NotVerified(
                "signature_missing",
                f"There is no {self.header} header. Set a secret at the sender, and the same one in this source.",
            )
        if not credentials.secrets:
            return Verified(body, None)
        digest = self._digest(signature)
        for position in self._order(body, credentials.secrets):
            if hmac.compare_digest(_hmac(credentials.secrets[position].value, body), digest):
                return Verified(body, position)
        raise NotVerified(
            "signature_wrong",
            f"{self.header} does not fit this body with any secret of this source. "
            "Compare the secrets on both sides, and sign the exact bytes that are sent.",
        )

    def sign(self, body: bytes, credentials: Credentials) -> tuple[bytes, dict[str, str]]:
        if not credentials.secrets:
            return body, {}
        digest = _hmac(credentials.secrets[0].value, body)
        return body, {self.header: self.prefix + ENCODINGS[self.encoding].write(digest)}

    def _digest(self, signature: bytes) -> bytes:
        prefix = _wire_text(self.prefix)
        written = signature.removeprefix(prefix)
        if prefix and self.prefix_required and written == signature:
            written = b""
        try:
            digest = ENCODINGS[self.encoding].read(written)
        except ValueError:
            digest = b""
        if len(digest) != SHA256_BYTES:
            raise NotVerified("signature_malformed", f"{self.header} is not {self._form()}.")
        return digest

    def _form(self) -> str:
        """The required form of the header."""
        form = ENCODINGS[self.encoding].form
        if not self.prefix:
            return form
        return f"{form} behind `{self.prefix}`{'' if self.prefix_required else ', which may be left out'}"

    def _order(self, body: bytes, secrets: tuple[Secret, ...]) -> Sequence[int]:
        if self.hint is None or len(secrets) == 1:
            return range(len(secrets))
        name = self.hint(body)
        return sorted(range(len(secrets)), key=lambda position: secrets[position].name != name)


@dataclass(frozen=True, slots=True)
class Unsigned(Verifier):
    """No proof at all: for a sender that offers none, on a network that only it can reach. Needs `allow_unsigned`."""

    def check(self, credentials: Credentials) -> str | None:
        if credentials.secrets:
            return "its dialect verifies nothing, so a secret has no effect: remove it"
        if credentials.allow_unsigned:
            return credentials.unused_without_encryption
        return "its dialect neither signs nor encrypts: set `allow_unsigned = true` if only the sender can reach it"

    def verify(self, body: bytes, headers: RawHeaders, credentials: Credentials) -> Verified:  # noqa: ARG002 (protocol)
        if not credentials.allow_unsigned:
            raise NotVerified("signature_missing", "This source takes no unsigned webhooks.")
        return Verified(body, None)

    def sign(self, body: bytes, credentials: Credentials) -> tuple[bytes, dict[str, str]]:  # noqa: ARG002 (protocol)
        return body, {}


def only_header(headers: RawHeaders, name: str) -> bytes | None:
    """The value of a header that may stand in the request only once, because verification depends on it."""
    wanted = _wire_text(name.lower())
    values = [value for key, value in headers if key == wanted]
    if len(values) > 1:
        raise NotVerified("signature_repeated", f"{name} stands in the request {len(values)} times. Send it once.")
    return values[0] if values else None


def _hmac(secret: bytes, body: bytes) -> bytes:
    keyed = _keyed(secret).copy()
    keyed.update(body)
    return keyed.digest()


@lru_cache(maxsize=4_096)
def _keyed(secret: bytes) -> hmac.HMAC:
    """HMAC with the secret already in it: setting that up costs more than the hash of a usual body."""
    return hmac.new(secret, digestmod="sha256")


@lru_cache(maxsize=1_024)
def _wire_text(text: str) -> bytes:
    return text.encode()
