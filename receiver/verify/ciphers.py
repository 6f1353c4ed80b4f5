"""Bodies encrypted with AES-256: their layouts, their wrappers, and the verifier that opens them.

A sender may document the algorithm and the key phrase, but not the mode, the place of the IV or the wrapper. So each
likely layout has a name, and a source's settings choose one. Decrypting alone does not authenticate a body, because
CBC and ECB carry no tag; the verifier therefore also requires the application key inside the body.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.padding import PKCS7

from receiver import codec
from receiver.errors import NotVerified, Unreadable
from receiver.verify.request import WebhookRequest
from receiver.verify.verifiers import EMPTY_SECRET, NAMED_SECRET, Credentials, Verified, Verifier

BLOCK = 16  #: bytes, of AES and of a CBC initialisation vector
NONCE = 12  #: bytes, of a GCM nonce
TAG = 16  #: bytes, of a GCM tag
SALT_MAGIC = b"Salted__"  #: how OpenSSL, and CryptoJS after it, marks a salted body

#: A key phrase is exactly 32 characters A–Z a–z 0–9, used as the bytes of an AES-256 key.
KEY_PHRASE = re.compile(rb"[A-Za-z0-9]{32}")

#: The text that replaces an application key in a stored body.
REDACTED = "(not stored)"

#: The values of `cipher` in a source's settings.
CIPHERS = ("auto", "aes-256-cbc", "aes-256-ecb", "aes-256-gcm", "openssl-salted", "none")


#: A function that returns unguessable bytes for vectors, nonces and salts. A simulation passes a seeded generator.
Random = Callable[[int], bytes]


class Undecryptable(Exception):
    """The bytes were not encrypted with this layout and key."""


class Layout(Protocol):
    def encrypt(self, plain: bytes, phrase: bytes, random: Random = os.urandom) -> bytes: ...

    def decrypt(self, sealed: bytes, phrase: bytes) -> bytes:
        """Decrypt a body. Raises `Undecryptable`."""


class Cbc:
    """AES-256-CBC with PKCS7 padding; the initialisation vector precedes the encrypted bytes."""

    def encrypt(self, plain: bytes, phrase: bytes, random: Random = os.urandom) -> bytes:
        vector = random(BLOCK)
        return vector + _encrypt_blocks(modes.CBC(vector), phrase, plain)

    def decrypt(self, sealed: bytes, phrase: bytes) -> bytes:
        if len(sealed) < 2 * BLOCK:
            raise Undecryptable
        return _decrypt_blocks(modes.CBC(sealed[:BLOCK]), phrase, sealed[BLOCK:])


class Ecb:
    """AES-256-ECB, PKCS7 padding."""

    def encrypt(self, plain: bytes, phrase: bytes, random: Random = os.urandom) -> bytes:  # noqa: ARG002 (protocol)
        return _encrypt_blocks(modes.ECB(), phrase, plain)  # noqa: S305 (the sender chooses the mode, not we)

    def decrypt(self, sealed: bytes, phrase: bytes) -> bytes:
        return _decrypt_blocks(modes.ECB(), phrase, sealed)  # noqa: S305 (the sender chooses the mode, not we)


class Gcm:
    """AES-256-GCM: nonce, encrypted bytes, tag. Only this layout authenticates a body by itself."""

    def encrypt(self, plain: bytes, phrase: bytes, random: Random = os.urandom) -> bytes:
        nonce = random(NONCE)
        return nonce + AESGCM(phrase).encrypt(nonce, plain, None)

    def decrypt(self, sealed: bytes, phrase: bytes) -> bytes:
        if len(sealed) < NONCE + TAG:
            raise Undecryptable
        try:
            return AESGCM(phrase).decrypt(sealed[:NONCE], sealed[NONCE:], None)
        except InvalidTag:
            raise Undecryptable from None


class OpensslSalted:
    """`Salted__`, 8 bytes of salt, then AES-256-CBC with a key derived by one round of MD5.

    CryptoJS and `openssl enc -md md5` write this layout.
    """

    def encrypt(self, plain: bytes, phrase: bytes, random: Random = os.urandom) -> bytes:
        salt = random(8)
        key, vector = _bytes_to_key(phrase, salt)
        return SALT_MAGIC + salt + _encrypt_blocks(modes.CBC(vector), key, plain)

    def decrypt(self, sealed: bytes, phrase: bytes) -> bytes:
        if not sealed.startswith(SALT_MAGIC) or len(sealed) < 2 * BLOCK:
            raise Undecryptable
        key, vector = _bytes_to_key(phrase, sealed[8:16])
        return _decrypt_blocks(modes.CBC(vector), key, sealed[16:])


#: The layouts in the order in which `auto` tries them: those that can be recognised with certainty come first.
LAYOUTS: dict[str, Layout] = {
    "openssl-salted": OpensslSalted(),
    "aes-256-gcm": Gcm(),
    "aes-256-cbc": Cbc(),
    "aes-256-ecb": Ecb(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptedBody(Verifier):
    """Verifies a body that is encrypted with a key phrase and holds the application key in one of its members.

    The body is base64 text, or a JSON object whose one string member is base64 text. A body with exactly the members
    `keyless`, such as the sender's test event, may lack the application key. `random` supplies random bytes to `sign`.
    """

    app_key_member: str
    keyless: frozenset[str] = frozenset()
    random: Random = field(default=os.urandom, repr=False, compare=False)

    @property
    def signature_headers(self) -> tuple[str, ...]:
        """Empty, because the body holds the whole proof."""
        return ()

    def check(self, credentials: Credentials) -> str | None:
        if credentials.cipher not in CIPHERS:
            return f"there is no cipher `{credentials.cipher}`: choose one of {', '.join(CIPHERS)}"
        if not credentials.app_key:
            return "decrypting does not authenticate: set `app_key` to the application key in its bodies"
        if credentials.has_empty_secret:
            return EMPTY_SECRET
        if credentials.has_names:
            return NAMED_SECRET
        if credentials.cipher == "none":
            return None
        if credentials.allow_unsigned:
            return "its bodies are encrypted, so `allow_unsigned` has no effect: remove it"
        if not credentials.secrets:
            return 'its bodies are encrypted: set `secrets = ["<the key phrase>"]`'
        if not all(KEY_PHRASE.fullmatch(secret.value) for secret in credentials.secrets):
            return "a key phrase is exactly 32 characters A–Z a–z 0–9, and one of its secrets is not"
        return None

    def verify(self, request: WebhookRequest, credentials: Credentials) -> Verified:
        body = request.body
        opened = Verified(body, None) if credentials.cipher == "none" else self._open(body, credentials)
        self._check_app_key(opened.plain, credentials)
        return opened

    def redact(self, plain: bytes, credentials: Credentials) -> bytes:
        """Replace the application key, which is a secret, and keep every other byte of the body."""
        concealed = plain.replace(codec.encode(credentials.app_key), codec.encode(REDACTED))
        document = _document(concealed) or {}
        if document.get(self.app_key_member) != credentials.app_key:
            return concealed
        # The body spells the key with escapes, so only encoding the whole document again removes it for certain.
        return codec.encode(document | {self.app_key_member: REDACTED})

    def prepare(self, body: bytes, credentials: Credentials) -> bytes:
        """Put the application key of these credentials into its member, if the body has that member."""
        document = _document(body)
        if document is None or document.get(self.app_key_member, credentials.app_key) == credentials.app_key:
            return body
        return codec.encode(document | {self.app_key_member: credentials.app_key})

    def sign(self, request: WebhookRequest, credentials: Credentials) -> tuple[bytes, dict[str, str]]:
        body = request.body
        if credentials.cipher == "none":
            return body, {}
        name = "aes-256-cbc" if credentials.cipher == "auto" else credentials.cipher
        return b64encode(LAYOUTS[name].encrypt(body, credentials.secrets[0].value, self.random)), {}

    def _open(self, body: bytes, credentials: Credentials) -> Verified:
        sealed = _unwrap(body)
        layouts = list(LAYOUTS.values()) if credentials.cipher == "auto" else [LAYOUTS[credentials.cipher]]
        for position, secret in enumerate(credentials.secrets):
            for layout in layouts:
                try:
                    plain = layout.decrypt(sealed, secret.value)
                except Undecryptable:
                    continue
                if _document(plain) is not None or self._is_undamaged(layout, plain):
                    return Verified(plain, position)
        raise NotVerified(
            "not_decryptable",
            "The body does not decrypt to a JSON object with any key phrase of this source. "
            f"Compare the key phrases on both sides, and the cipher (here: {credentials.cipher}).",
            # The body may have arrived as plain text, which may contain an application key.
            final=_is_text(sealed),
        )

    def _is_undamaged(self, layout: Layout, plain: bytes) -> bool:
        """Whether a decrypted body that is not valid JSON was encrypted in that form by the sender.

        GCM detects damage by itself. In the other layouts a damaged block decrypts to random bytes, not valid UTF-8.
        """
        if self._written_app_key(plain) is None:
            return False
        return isinstance(layout, Gcm) or _is_text(plain)

    def _written_app_key(self, plain: bytes) -> str | None:
        """Find the application key in a body that is not valid JSON, because such a body may still be authentic."""
        found = re.search(rb'"%b"\s*:\s*"([^"\\]+)"' % re.escape(self.app_key_member.encode()), plain)
        return found[1].decode("utf-8", "replace") if found is not None else None

    def _check_app_key(self, plain: bytes, credentials: Credentials) -> None:
        document = _document(plain)
        found = self._written_app_key(plain) if document is None else document.get(self.app_key_member)
        if document is None and found is None:
            raise NotVerified(
                "not_decryptable", "The body is not a JSON object, so it holds no application key.", final=True
            )
        if (
            document is not None
            and found is None
            and credentials.cipher != "none"
            and self.keyless
            and document.keys() == self.keyless
        ):
            return
        expected = credentials.app_key or ""
        if not isinstance(found, str) or not hmac.compare_digest(found.encode(), expected.encode()):
            raise NotVerified(
                "app_key_wrong",
                f"`{self.app_key_member}` in the body is not the `app_key` of this source. Compare the two.",
            )


def _document(plain: bytes) -> dict[str, Any] | None:
    try:
        document = codec.decode(plain)
    except Unreadable:
        return None
    return document if isinstance(document, dict) else None


def _is_text(plain: bytes) -> bool:
    try:
        plain.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _unwrap(body: bytes) -> bytes:
    """Decode the encrypted bytes from base64 text, which is the body or the one string member of a JSON object."""
    text = body.strip()
    if text[:1] in (b"{", b'"'):
        try:
            wrapper = codec.decode(text)
        except Unreadable:
            wrapper = None
        if isinstance(wrapper, dict):
            strings = [value for value in wrapper.values() if isinstance(value, str)]
            wrapper = strings[0] if len(strings) == 1 else None
        text = wrapper.encode() if isinstance(wrapper, str) else b""
    try:
        return b64decode(b"".join(text.split()), validate=True)
    except Base64Error:
        raise NotVerified(
            "not_decryptable", "The body is neither base64 text nor a JSON object with one base64 string.", final=True
        ) from None


def _encrypt_blocks(mode: modes.CBC | modes.ECB, key: bytes, plain: bytes) -> bytes:
    padder = PKCS7(BLOCK * 8).padder()
    encryptor = Cipher(algorithms.AES256(key), mode).encryptor()
    return encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()


def _decrypt_blocks(mode: modes.CBC | modes.ECB, key: bytes, sealed: bytes) -> bytes:
    if not sealed or len(sealed) % BLOCK:
        raise Undecryptable
    decryptor = Cipher(algorithms.AES256(key), mode).decryptor()
    unpadder = PKCS7(BLOCK * 8).unpadder()
    padded = decryptor.update(sealed) + decryptor.finalize()
    try:
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError:
        raise Undecryptable from None


def _bytes_to_key(phrase: bytes, salt: bytes) -> tuple[bytes, bytes]:
    """Derive key and vector like OpenSSL's EVP_BytesToKey with one round of MD5."""
    derived = block = b""
    while len(derived) < 32 + BLOCK:
        block = hashlib.md5(block + phrase + salt, usedforsecurity=False).digest()
        derived += block
    return derived[:32], derived[32 : 32 + BLOCK]
