"""The layouts of bodies encrypted with AES-256: the mode, and the place of the initialisation vector."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.padding import PKCS7

BLOCK = 16  #: bytes, of AES and of a CBC initialisation vector
NONCE = 12  #: bytes, of a GCM nonce
TAG = 16  #: bytes, of a GCM tag
SALT_MAGIC = b"Salted__"  #: how OpenSSL, and CryptoJS after it, marks a salted body

#: The keys of each mode whose decryptors a thread keeps.
MOST_DECRYPTORS = 256

#: A function that returns unguessable bytes for vectors, nonces and salts. A simulation passes a seeded generator.
Random = Callable[[int], bytes]


class Undecryptable(Exception):
    """The bytes were not encrypted with this layout and key."""


class Layout(Protocol):
    def encrypt(self, plain: bytes, phrase: bytes, random: Random = os.urandom) -> bytes: ...

    def decrypt(self, sealed: bytes, phrase: bytes) -> tuple[bytes, bool]:
        """Decrypt a body. Returns also whether its padding is right: only then is it one that this layout encrypted.

        A wrong padding is no error here, because the steps after it must be the same. If they took another time, a
        stranger could decrypt a body that he has seen, and encrypt others (a padding oracle). Raises `Undecryptable`.
        """


class Cbc:
    """AES-256-CBC with PKCS7 padding; the initialisation vector precedes the encrypted bytes."""

    def encrypt(self, plain: bytes, phrase: bytes, random: Random = os.urandom) -> bytes:
        vector = random(BLOCK)
        return vector + _encrypt_blocks(modes.CBC(vector), phrase, plain)

    def decrypt(self, sealed: bytes, phrase: bytes) -> tuple[bytes, bool]:
        if len(sealed) < 2 * BLOCK or len(sealed) % BLOCK:
            raise Undecryptable
        # A block is decrypted with the block before it, and nothing else. So after any other body, the decryptor turns
        # the vector into a meaningless block, and all that follow it into the right ones.
        return _unpadded(_kept.cbc(phrase)(sealed)[BLOCK:])


class Ecb:
    """AES-256-ECB, PKCS7 padding."""

    def encrypt(self, plain: bytes, phrase: bytes, random: Random = os.urandom) -> bytes:  # noqa: ARG002 (protocol)
        return _encrypt_blocks(modes.ECB(), phrase, plain)  # noqa: S305 (the sender chooses the mode, not we)

    def decrypt(self, sealed: bytes, phrase: bytes) -> tuple[bytes, bool]:
        if not sealed or len(sealed) % BLOCK:
            raise Undecryptable
        return _unpadded(_kept.ecb(phrase)(sealed))


class Gcm:
    """AES-256-GCM: nonce, encrypted bytes, tag. Only this layout authenticates a body by itself."""

    def encrypt(self, plain: bytes, phrase: bytes, random: Random = os.urandom) -> bytes:
        nonce = random(NONCE)
        return nonce + AESGCM(phrase).encrypt(nonce, plain, None)

    def decrypt(self, sealed: bytes, phrase: bytes) -> tuple[bytes, bool]:
        if len(sealed) < NONCE + TAG:
            raise Undecryptable
        try:
            return _kept.gcm(phrase).decrypt(sealed[:NONCE], sealed[NONCE:], None), True
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

    def decrypt(self, sealed: bytes, phrase: bytes) -> tuple[bytes, bool]:
        if not sealed.startswith(SALT_MAGIC) or len(sealed) < 2 * BLOCK:
            raise Undecryptable
        if len(sealed) % BLOCK:
            raise Undecryptable
        key, vector = _bytes_to_key(phrase, sealed[8:16])
        return _unpadded(_decryptor(key, modes.CBC(vector))(sealed[16:]))


#: The layouts in the order in which `auto` tries them: those that can be recognised with certainty come first.
LAYOUTS: dict[str, Layout] = {
    "openssl-salted": OpensslSalted(),
    "aes-256-gcm": Gcm(),
    "aes-256-cbc": Cbc(),
    "aes-256-ecb": Ecb(),
}


def _encrypt_blocks(mode: modes.CBC | modes.ECB, key: bytes, plain: bytes) -> bytes:
    padder = PKCS7(BLOCK * 8).padder()
    encryptor = Cipher(algorithms.AES256(key), mode).encryptor()
    return encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()


def _decryptor(key: bytes, mode: modes.CBC | modes.ECB) -> Callable[[bytes], bytes]:
    return Cipher(algorithms.AES256(key), mode).decryptor().update


class _Kept(threading.local):
    """The decryptors of one thread by their keys, since making one takes ten times as long as decrypting a body."""

    def __init__(self) -> None:
        self.cbc = lru_cache(maxsize=MOST_DECRYPTORS)(lambda key: _decryptor(key, modes.CBC(bytes(BLOCK))))
        self.ecb = lru_cache(maxsize=MOST_DECRYPTORS)(lambda key: _decryptor(key, modes.ECB()))  # noqa: S305 (see Ecb)
        self.gcm = lru_cache(maxsize=MOST_DECRYPTORS)(AESGCM)


_kept = _Kept()

#: The paddings of PKCS7 by their length in bytes.
_PADDINGS = [bytes([length]) * length for length in range(BLOCK + 1)]


def _unpadded(padded: bytes) -> tuple[bytes, bool]:
    """Remove the padding of PKCS7 (RFC 5652, section 6.3), and return whether it is right; a wrong one is one byte."""
    length = padded[-1]
    if 0 < length <= BLOCK and padded.endswith(_PADDINGS[length]):
        return padded[:-length], True
    return padded[:-1], False


def _bytes_to_key(phrase: bytes, salt: bytes) -> tuple[bytes, bytes]:
    """Derive key and vector like OpenSSL's EVP_BytesToKey with one round of MD5."""
    derived = block = b""
    while len(derived) < 32 + BLOCK:
        block = hashlib.md5(block + phrase + salt, usedforsecurity=False).digest()
        derived += block
    return derived[:32], derived[32 : 32 + BLOCK]
