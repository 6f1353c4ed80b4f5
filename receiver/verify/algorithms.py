"""Signature algorithms, and the conversion of a secret's text into a key.

Keys are cached, because a source has few secrets and many signatures to check.
"""

from __future__ import annotations

import hashlib
from base64 import b64decode
from binascii import unhexlify
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from cryptography.x509 import load_pem_x509_certificate

AlgorithmName = Literal[
    "hmac_sha256",
    "hmac_sha1",
    "hmac_sha512",
    "sha256",
    "ed25519",
    "rsa_sha256",
    "rsa_sha1",
    "rsa_sha512",
    "ecdsa_sha256",
]

#: The form of a secret: plain text, hexadecimal digits, base64, base64 behind a prefix, or PEM.
KeyForm = Literal["text", "hex", "base64", "whsec", "whpk", "pem"]

#: Algorithms with a shared secret, each with its hash and the bytes of its digest.
DIGESTS = {
    "hmac_sha256": ("sha256", 32),
    "hmac_sha1": ("sha1", 20),
    "hmac_sha512": ("sha512", 64),
    "sha256": ("sha256", 32),
}

#: Algorithms with a key pair: the receiver knows the public key, and only the sender can sign.
PUBLIC = ("ed25519", "rsa_sha256", "rsa_sha1", "rsa_sha512", "ecdsa_sha256")

ALGORITHMS = (*DIGESTS, *PUBLIC)

_HASHES: dict[str, Callable[[], hashes.HashAlgorithm]] = {
    "rsa_sha256": hashes.SHA256,
    "rsa_sha1": hashes.SHA1,
    "rsa_sha512": hashes.SHA512,
    "ecdsa_sha256": hashes.SHA256,
}

#: The class of public key that each algorithm takes, and the name of that kind in messages.
_KINDS: dict[str, tuple[type[Any], str]] = {
    "ed25519": (ed25519.Ed25519PublicKey, "an Ed25519"),
    "rsa_sha256": (rsa.RSAPublicKey, "an RSA"),
    "rsa_sha1": (rsa.RSAPublicKey, "an RSA"),
    "rsa_sha512": (rsa.RSAPublicKey, "an RSA"),
    "ecdsa_sha256": (ec.EllipticCurvePublicKey, "an elliptic curve"),
}


class WrongKey(ValueError):
    """The secret is not a key of the required form. The message names that form, and never quotes the secret."""


# ── from a secret to a key ────────────────────────────────────────────────────────────────────────────────────


def key_bytes(secret: bytes, form: KeyForm) -> bytes:
    """Decode a secret of this form into the bytes of the key. Raises `WrongKey`."""
    if form == "text":
        return secret
    if form == "hex":
        try:
            return unhexlify(secret.strip())
        except ValueError:
            raise WrongKey("is not hexadecimal digits, which its sender gives") from None
    if form == "base64":
        return _from_base64(secret, "is not base64, which its sender gives")
    prefix = b"whsec_" if form == "whsec" else b"whpk_"
    return _from_base64(secret.strip().removeprefix(prefix), f"is not base64 behind `{prefix.decode()}`")


def _from_base64(text: bytes, otherwise: str) -> bytes:
    """Decode base64 with or without padding, because senders' libraries accept both in a secret."""
    bare = text.strip().rstrip(b"=")
    try:
        content = b64decode(bare + b"=" * (-len(bare) % 4), validate=True)
    except ValueError:
        raise WrongKey(otherwise) from None
    if not content:
        raise WrongKey(otherwise)
    return content


@lru_cache(maxsize=4_096)
def public_key(secret: bytes, algorithm: str, form: KeyForm) -> Any:
    """Load the public key from a secret: PEM of a key or of a certificate, or the raw bytes of an Ed25519 key.

    Raises `WrongKey`.
    """
    if form == "pem":
        return _of_kind(_from_pem(secret), algorithm)
    raw = key_bytes(secret, form)
    if algorithm != "ed25519" or len(raw) != 32:
        raise WrongKey("is not the 32 bytes of an Ed25519 public key")
    return ed25519.Ed25519PublicKey.from_public_bytes(raw)


def _from_pem(text: bytes) -> Any:
    # An environment variable, or a file with one secret per line, holds line ends as `\n`.
    content = text.replace(b"\\n", b"\n").strip()
    if b"PRIVATE KEY" in content:
        try:
            return load_pem_private_key(content, password=None).public_key()
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise WrongKey("is not a private key in PEM without a password") from None
    try:
        if b"CERTIFICATE" in content:
            return load_pem_x509_certificate(content).public_key()
        return load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise WrongKey("is not a public key in PEM, which begins with `-----BEGIN PUBLIC KEY-----`") from None


def _of_kind(key: Any, algorithm: str) -> Any:
    kind, name = _KINDS[algorithm]
    if not isinstance(key, kind):
        raise WrongKey(f"is not {name} key, which its sender signs with")
    return key


def identity_of(public: Any) -> bytes:
    """Encode a public key, so that two texts of one key can be recognised as equal."""
    return bytes(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def private_key(secret: bytes, algorithm: str, form: KeyForm) -> Any:
    """Load the private key from a secret, for tests and `hookmirror send`. Raises `WrongKey` for a public key."""
    content = secret.replace(b"\\n", b"\n").strip()
    if form != "pem" or b"PRIVATE KEY" not in content:
        raise WrongKey("is a public key, and only the private one signs: give it, in PEM, to send like the sender")
    public_key(secret, algorithm, form)
    return load_pem_private_key(content, password=None)


# ── computing and comparing ───────────────────────────────────────────────────────────────────────────────────


#: The padding bytes that HMAC combines with the key, for the inner and for the outer hash.
_INNER, _OUTER = (bytes(byte ^ mixed for byte in range(256)) for mixed in (0x36, 0x5C))


class KeyedHash:
    """HMAC (RFC 2104) prepared for one key: the inner and the outer hash, which are copied for each text.

    Copying an `hmac` object takes as long as hashing a usual body; copying these two hashes takes a third of that.
    """

    def __init__(self, key: bytes, algorithm: str) -> None:
        name = DIGESTS[algorithm][0]
        size = hashlib.new(name).block_size
        block = (key if len(key) <= size else hashlib.new(name, key).digest()).ljust(size, b"\0")
        self._inner = hashlib.new(name, block.translate(_INNER)).copy
        self._outer = hashlib.new(name, block.translate(_OUTER)).copy

    def digest(self, text: bytes) -> bytes:
        """Compute the HMAC of the text."""
        inner = self._inner()
        inner.update(text)
        outer = self._outer()
        outer.update(inner.digest())
        return outer.digest()


@lru_cache(maxsize=4_096)
def keyed(algorithm: str, form: KeyForm, secret: bytes) -> KeyedHash:
    """Prepare the HMAC for a secret; cached, because that costs more than hashing a usual body. Raises `WrongKey`."""
    return KeyedHash(key_bytes(secret, form), algorithm)


def is_signed(algorithm: str, key: Any, signature: bytes, text: bytes) -> bool:
    """Whether the owner of the public key signed the text."""
    try:
        if algorithm == "ed25519":
            key.verify(signature, text)
        elif algorithm == "ecdsa_sha256":
            key.verify(signature, text, ec.ECDSA(_HASHES[algorithm]()))
        else:
            key.verify(signature, text, padding.PKCS1v15(), _HASHES[algorithm]())
    except (InvalidSignature, ValueError):
        return False
    return True


def signed(algorithm: str, key: Any, text: bytes) -> bytes:
    """Sign the text with the private key."""
    made: bytes
    if algorithm == "ed25519":
        made = key.sign(text)
    elif algorithm == "ecdsa_sha256":
        made = key.sign(text, ec.ECDSA(_HASHES[algorithm]()))
    else:
        made = key.sign(text, padding.PKCS1v15(), _HASHES[algorithm]())
    return made
