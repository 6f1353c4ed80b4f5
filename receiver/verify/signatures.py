"""The usual signature, HMAC-SHA256 of the body; and the verifier for senders without a signature.

Comparisons are made on bytes and in constant time. Every wrong header raises `NotVerified`.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from receiver.errors import NotVerified, WiringError
from receiver.verify.algorithms import keyed
from receiver.verify.encodings import ENCODINGS
from receiver.verify.request import WebhookRequest, only_header
from receiver.verify.verifiers import EMPTY_SECRET, NAMED_SECRET, Credentials, Verified, Verifier, hinted_order

SHA256_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True, kw_only=True)
class HmacSha256(Verifier):
    """HMAC-SHA256 of the raw body, in a header: as hexadecimal digits, or with `encoding="base64"` in base64.

    `prefix` is the text before the signature ("sha256=" with most senders). Without `prefix_required`, a signature
    without the prefix is accepted, too. `hint` reads the unverified body and names the secret to try first; it changes
    only the order of the secrets.
    """

    header: str
    prefix: str = "sha256="
    prefix_required: bool = False
    encoding: Literal["hex", "base64"] = "hex"
    hint: Callable[[bytes], str | None] | None = None

    @property
    def signature_headers(self) -> tuple[str, ...]:
        """The header that the verifier reads. It may be kept, because a signature does not reveal the secret."""
        return (self.header,)

    def __post_init__(self) -> None:
        """Raises `WiringError` for an unknown encoding."""
        if self.encoding not in ("hex", "base64"):
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

    def verify(self, request: WebhookRequest, credentials: Credentials) -> Verified:
        body, signature = request.body, only_header(request.headers, self.header)
        if signature is None:
            if credentials.allow_unsigned:
                return Verified(body, None)
            raise NotVerified(
                "signature_missing",
                f"There is no {self.header} header. Set a secret at the sender, and the same one in this source.",
            )
        secrets = credentials.secrets
        if not secrets and credentials.allow_unsigned:
            return Verified(body, None)
        digest = self._digest(signature)
        for position in (0,) if len(secrets) == 1 else hinted_order(secrets, self.hint, body):
            if hmac.compare_digest(keyed("hmac_sha256", "text", secrets[position].value).digest(body), digest):
                return Verified(body, position)
        raise NotVerified(
            "signature_wrong",
            f"{self.header} does not fit this body with any secret of this source. "
            "Compare the secrets on both sides, and sign the exact bytes that are sent.",
        )

    def sign(self, request: WebhookRequest, credentials: Credentials) -> tuple[bytes, dict[str, str]]:
        if not credentials.secrets:
            return request.body, {}
        digest = keyed("hmac_sha256", "text", credentials.secrets[0].value).digest(request.body)
        return request.body, {self.header: self.prefix + ENCODINGS[self.encoding].write(digest)}

    def _digest(self, signature: bytes) -> bytes:
        prefix, read = self._wire
        written = signature.removeprefix(prefix)
        if prefix and self.prefix_required and written == signature:
            written = b""
        try:
            digest = read(written)
        except ValueError:
            digest = b""
        if len(digest) != SHA256_BYTES:
            raise NotVerified("signature_malformed", f"{self.header} is not {self._form()}.")
        return digest

    @cached_property
    def _wire(self) -> tuple[bytes, Callable[[bytes], bytes]]:
        """The prefix as bytes, and the function that decodes a signature, looked up once for all webhooks."""
        return self.prefix.encode(), ENCODINGS[self.encoding].read

    def _form(self) -> str:
        """Describe the required form of the header."""
        form = ENCODINGS[self.encoding].form(SHA256_BYTES)
        if not self.prefix:
            return form
        return f"{form} behind `{self.prefix}`{'' if self.prefix_required else ', which may be left out'}"


@dataclass(frozen=True, slots=True)
class Unsigned(Verifier):
    """Accepts bodies without a proof, for a sender on a network that only it can reach. Needs `allow_unsigned`."""

    def check(self, credentials: Credentials) -> str | None:
        if credentials.secrets:
            return "its dialect verifies nothing, so a secret has no effect: remove it"
        if credentials.allow_unsigned:
            return credentials.unused_without_encryption
        return (
            "its sender neither signs nor encrypts: set `allow_unsigned = true` if only that sender can reach this "
            "server"
        )

    def verify(self, request: WebhookRequest, credentials: Credentials) -> Verified:
        if not credentials.allow_unsigned:
            raise NotVerified("signature_missing", "This source takes no unsigned webhooks.")
        return Verified(request.body, None)

    def sign(self, request: WebhookRequest, credentials: Credentials) -> tuple[bytes, dict[str, str]]:  # noqa: ARG002 (protocol)
        return request.body, {}
