"""JSON web signatures of the body (RFC 7515, RFC 7797), and web tokens that contain the body's hash (RFC 7519)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from hmac import compare_digest
from typing import Any, NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from receiver import codec
from receiver.errors import ConfigurationError, NotVerified, Unreadable
from receiver.verify.encodings import read_base64url, write_base64url
from receiver.verify.freshness import LONGEST_TIME
from receiver.verify.key_sets import key_set
from receiver.verify.request import WebhookRequest
from receiver.verify.verifiers import Credentials, Verified, Verifier

#: The address of a key set, or a function that makes the address from a source's credentials.
KeySetUrl = str | Callable[[Credentials], str]

#: The most bytes of a signature with its head.
LONGEST_WEB_SIGNATURE = 8_192


@dataclass(frozen=True, slots=True, kw_only=True)
class DetachedJws(Verifier):
    """Verifies a web signature of the body, `head..signature` in a header, with the sender's key set at `keys`.

    Accepts RS256, ES256 and EdDSA. The signature covers the raw body if the head has `b64: false`, otherwise the body
    in base64url.
    """

    header: str
    keys: KeySetUrl

    @property
    def signature_headers(self) -> tuple[str, ...]:
        """The header that the verifier reads."""
        return (self.header,)

    def check(self, credentials: Credentials) -> str | None:
        return _wrong(credentials, self.keys)

    def begin(self, credentials: Credentials) -> None:
        """Begin to fetch the keys, when a server starts."""
        key_set(_address(self.keys, credentials)).begin()

    def verify(self, request: WebhookRequest, credentials: Credentials) -> Verified:
        value = _sent(request, self.header)
        head, middle, signature = _parts(self.header, value)
        if middle:
            raise _malformed(self.header, "contains a body, where only the signature of the request's body is allowed")
        fields = _fields(self.header, head)
        plain = request.body if fields.get("b64") is False else write_base64url(request.body).encode()
        _check(self.header, fields, head + b"." + plain, signature, _address(self.keys, credentials))
        return Verified(request.body, None)

    def sign(self, request: WebhookRequest, credentials: Credentials) -> NoReturn:  # noqa: ARG002 (protocol)
        raise ConfigurationError("This cannot be signed: only its sender has the key.")


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyHashJwt(Verifier):
    """Verifies a web token in a header with the key set at `keys`.

    The token's `claim` is the SHA-256 of the body in hexadecimal digits. Its time `iat` may differ from the arrival by
    `within` at most.
    """

    header: str
    keys: KeySetUrl
    claim: str = "request_body_sha256"
    within: timedelta = timedelta(minutes=5)

    @property
    def signature_headers(self) -> tuple[str, ...]:
        """The header that the verifier reads."""
        return (self.header,)

    def check(self, credentials: Credentials) -> str | None:
        return _wrong(credentials, self.keys)

    def begin(self, credentials: Credentials) -> None:
        """Begin to fetch the keys, when a server starts."""
        key_set(_address(self.keys, credentials)).begin()

    def verify(self, request: WebhookRequest, credentials: Credentials) -> Verified:
        head, middle, signature = _parts(self.header, _sent(request, self.header))
        fields, claims = _fields(self.header, head), _fields(self.header, middle)
        if fields.get("b64") is False:
            raise _malformed(self.header, "has b64: false, which a token may not have")
        _check(self.header, fields, head + b"." + middle, signature, _address(self.keys, credentials))
        claimed = claims.get(self.claim)
        if not isinstance(claimed, str) or not compare_digest(
            claimed.lower().encode("utf-8", "replace"), sha256(request.body).hexdigest().encode()
        ):
            raise NotVerified("signature_wrong", f"`{self.claim}` in {self.header} is not the SHA-256 of this body.")
        _check_age(self.header, claims.get("iat"), request.at.timestamp(), self.within.total_seconds())
        return Verified(request.body, None)

    def sign(self, request: WebhookRequest, credentials: Credentials) -> NoReturn:  # noqa: ARG002 (protocol)
        raise ConfigurationError("This cannot be signed: only its sender has the key.")


def _wrong(credentials: Credentials, keys: KeySetUrl) -> str | None:
    if credentials.secrets or credentials.allow_unsigned:
        return "its sender's public keys are fetched, so secrets and `allow_unsigned` have no effect: remove them"
    key_set(_address(keys, credentials))
    return credentials.unused_without_encryption


def _address(keys: KeySetUrl, credentials: Credentials) -> str:
    return keys if isinstance(keys, str) else keys(credentials)


def _sent(request: WebhookRequest, header: str) -> bytes:
    value = request.header(header)
    if value is None:
        raise NotVerified("signature_missing", f"There is no {header}.")
    if len(value) > LONGEST_WEB_SIGNATURE:
        raise _malformed(header, f"is longer than {LONGEST_WEB_SIGNATURE} bytes")
    return value


def _malformed(header: str, says: str) -> NotVerified:
    return NotVerified("signature_malformed", f"{header} {says}.")


def _parts(header: str, value: bytes) -> tuple[bytes, bytes, bytes]:
    """Split the value into the encoded head, the encoded middle and the decoded signature. Raises `NotVerified`."""
    parts = value.split(b".")
    if len(parts) != 3:
        raise _malformed(header, "does not consist of three parts separated by dots")
    try:
        return parts[0], parts[1], read_base64url(parts[2])
    except ValueError:
        raise _malformed(header, "does not end in base64url") from None


def _fields(header: str, part: bytes) -> dict[str, Any]:
    try:
        found = codec.decode(read_base64url(part))
    except (ValueError, Unreadable):
        found = None
    if not isinstance(found, dict):
        raise _malformed(header, "has a part that is not a JSON object in base64url")
    return found


def _check(header: str, fields: dict[str, Any], text: bytes, signature: bytes, url: str) -> None:
    """Check the signature. Raises `NotVerified`, and `Unavailable` while the keys are being fetched."""
    algorithm, name = fields.get("alg"), fields.get("kid")
    if algorithm not in ("RS256", "ES256", "EdDSA") or not isinstance(name, str):
        raise _malformed(header, "names no key, or another algorithm than RS256, ES256 and EdDSA")
    if fields.get("crit", ["b64"]) != ["b64"]:
        raise _malformed(header, "has a critical extension that Hookmirror does not know")
    if not _is_signed(algorithm, key_set(url).key(name), signature, text):
        raise NotVerified("signature_wrong", f"{header} does not fit this request. Sign the exact bytes that are sent.")


def _is_signed(algorithm: str, key: Any, signature: bytes, text: bytes) -> bool:
    """Whether the owner of the key signed the text; False for a key of another kind than the algorithm's."""
    try:
        if algorithm == "RS256" and isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, text, padding.PKCS1v15(), hashes.SHA256())
            return True
        if algorithm == "EdDSA" and isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, text)
            return True
        if algorithm == "ES256" and isinstance(key, ec.EllipticCurvePublicKey) and len(signature) == 64:
            halves = (int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
            key.verify(encode_dss_signature(*halves), text, ec.ECDSA(hashes.SHA256()))
            return True
    except InvalidSignature:
        pass
    return False


def _check_age(header: str, signed_at: Any, arrived_at: float, within: float) -> None:
    if type(signed_at) is not int or abs(signed_at) >= 10**LONGEST_TIME:
        raise _malformed(header, "has no time `iat` in whole seconds")
    if abs(signed_at - arrived_at) > within:
        raise NotVerified(
            "signature_stale",
            f"The signature is right, and was made at {signed_at} s since 1970; this arrived at {arrived_at:.0f} s, "
            f"and {within:.0f} s between them are allowed. Compare the clocks on both sides.",
        )
