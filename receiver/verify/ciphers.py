"""Bodies encrypted with AES-256: their wrappers, and the verifier that opens them.

A sender may document the algorithm and the key phrase, but not the mode, the place of the IV or the wrapper. So each
likely layout has a name, and a source's settings choose one. Decrypting alone does not authenticate a body, because
CBC and ECB carry no tag; the verifier therefore also requires the application key inside the body.
"""

from __future__ import annotations

import hmac
import json
import os
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from codecs import getincrementaldecoder
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import msgspec

from receiver import codec
from receiver.errors import NotVerified, Unreadable
from receiver.verify.layouts import BLOCK, LAYOUTS, Gcm, Layout, Random, Undecryptable
from receiver.verify.request import WebhookRequest
from receiver.verify.verifiers import EMPTY_SECRET, NAMED_SECRET, Credentials, Verified, Verifier

#: A key phrase is exactly 32 characters A–Z a–z 0–9, used as the bytes of an AES-256 key.
KEY_PHRASE = re.compile(rb"[A-Za-z0-9]{32}")

#: The text that replaces an application key in a stored body.
REDACTED = "(not stored)"

#: The values of `cipher` in a source's settings.
CIPHERS = ("auto", "aes-256-cbc", "aes-256-ecb", "aes-256-gcm", "openssl-salted", "none")


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
        if credentials.cipher != "none":
            return self._open(body, credentials)
        if not self._holds_app_key(body, credentials):
            self._check_app_key(body, _document(body), credentials)
        return Verified(body, None)

    def redact(self, plain: bytes, credentials: Credentials) -> bytes:
        """Replace the application key, which is a secret, and keep every other byte of the body."""
        concealed = plain.replace(_encoded(credentials.app_key), _encoded(REDACTED))
        if concealed != plain and (_is_spelled_out(plain) or self._app_key_in(concealed) == REDACTED):
            return concealed
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
        """Decrypt a body, and check its application key. Raises `NotVerified`."""
        sealed = _unwrap(body)
        layouts = LAYOUTS.values() if credentials.cipher == "auto" else (LAYOUTS[credentials.cipher],)
        for position, secret in enumerate(credentials.secrets):
            for layout in layouts:
                try:
                    plain, is_padded = layout.decrypt(sealed, secret.value)
                    refusal = self._refusal(layout, plain, credentials)
                except Undecryptable:
                    continue
                # The padding decides last, so that the time of the answer does not tell a stranger that it is right.
                if is_padded and refusal is not None:
                    raise refusal
                if is_padded:
                    return Verified(plain, position)
        raise NotVerified(
            "not_decryptable",
            "The body does not decrypt to a JSON object with any key phrase of this source. "
            f"Compare the key phrases on both sides, and the cipher (here: {credentials.cipher}).",
            # The body may have arrived as plain text, which may contain an application key.
            final=_is_text(sealed),
        )

    def _refusal(self, layout: Layout, plain: bytes, credentials: Credentials) -> NotVerified | None:
        """The reason to refuse a decrypted body; None if it holds the right application key.

        Raises `Undecryptable` for a body that another key, or another layout, has encrypted.
        """
        if self._holds_app_key(plain, credentials):
            return None
        if not isinstance(layout, Gcm) and not _may_be_text(plain):
            raise Undecryptable
        document = _document(plain)
        if document is None and not self._is_undamaged(layout, plain):
            raise Undecryptable
        try:
            self._check_app_key(plain, document, credentials)
        except NotVerified as refusal:
            return refusal
        return None

    def _is_undamaged(self, layout: Layout, plain: bytes) -> bool:
        """Whether a decrypted body that is not valid JSON was encrypted in that form by the sender.

        GCM detects damage by itself. In the other layouts a damaged block decrypts to random bytes, not valid UTF-8.
        """
        if self._written_app_key(plain) is None:
            return False
        return isinstance(layout, Gcm) or _is_text(plain)

    def _holds_app_key(self, plain: bytes, credentials: Credentials) -> bool:
        """Whether the body is a JSON object in UTF-8 with the right application key, as nearly every body is."""
        found = self._app_key_in(plain)
        expected = credentials.app_key or ""
        return found is not None and hmac.compare_digest(found.encode(), expected.encode()) and _is_text(plain)

    def _app_key_in(self, plain: bytes) -> str | None:
        """Read the application key, and skip all other members; None if it is not text, or for an unusual body."""
        try:
            found: str | None = _key_reader(self.app_key_member).decode(plain).key
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None
        return found

    def _written_app_key(self, plain: bytes) -> str | None:
        """Find the application key in a body that is not valid JSON, because such a body may still be authentic."""
        found = re.search(rb'"%b"\s*:\s*"([^"\\]+)"' % re.escape(self.app_key_member.encode()), plain)
        return found[1].decode("utf-8", "replace") if found is not None else None

    def _check_app_key(self, plain: bytes, document: dict[str, Any] | None, credentials: Credentials) -> None:
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


@lru_cache(maxsize=1_024)
def _key_reader(member: str) -> msgspec.json.Decoder[Any]:
    """Make the decoder that reads only this member. It makes no value of the others, so it takes half as long."""
    keyed = msgspec.defstruct("Keyed", [("key", str | None, None)], rename={"key": member})
    return msgspec.json.Decoder(keyed)


@lru_cache(maxsize=1_024)
def _encoded(text: str | None) -> bytes:
    return codec.encode(text)


def _document(plain: bytes) -> dict[str, Any] | None:
    try:
        document = codec.decode(plain)
    except Unreadable:
        return None
    return document if isinstance(document, dict) else None


def _is_spelled_out(plain: bytes) -> bool:
    """Whether every text in this JSON stands there literally: without escapes, and in UTF-8, as no other form is."""
    # A single byte is searched for as a number, because searching bytes in bytes takes five times as long.
    return ord("\\") not in plain and 0 not in plain


def _is_text(plain: bytes) -> bool:
    try:
        plain.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _may_be_text(plain: bytes) -> bool:
    """Whether a decrypted body without its last block can be JSON, in the encoding that its first bytes show.

    It reads up to the first wrong byte: of noise, that is a few bytes, while parsing would examine all of it.
    """
    whole_blocks = plain[: len(plain) // BLOCK * BLOCK]
    try:
        getincrementaldecoder(json.detect_encoding(plain))().decode(whole_blocks)
    except UnicodeError:
        return False
    return True


_base64 = msgspec.json.Decoder(bytes)


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
        # As a JSON string, because that decoder takes half as long as the one below.
        return _base64.decode(b'"%b"' % text)
    except (msgspec.MsgspecError, ValueError):
        pass
    try:
        # Its lines may be broken.
        return b64decode(b"".join(text.split()), validate=True)
    except Base64Error:
        raise NotVerified(
            "not_decryptable", "The body is neither base64 text nor a JSON object with one base64 string.", final=True
        ) from None
