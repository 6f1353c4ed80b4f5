"""Encodings of a signature: hexadecimal digits, base64, or base64url. Only one spelling of each is accepted."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode, urlsafe_b64encode
from binascii import b2a_base64, hexlify, unhexlify
from collections.abc import Callable
from typing import NamedTuple

_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_OF_URLS = re.compile(rb"[A-Za-z0-9_-]*={0,2}")


class Encoding(NamedTuple):
    """The functions that write and read bytes in a header."""

    #: Returns the name of the form for messages, given the number of bytes.
    form: Callable[[int], str]
    write: Callable[[bytes], str]
    #: Raises `ValueError` for text in another form.
    read: Callable[[bytes], bytes]
    #: Two functions for a comparison in constant time: `expected` encodes the right bytes, and `spelled` brings the
    #: signature of a request into the same spelling.
    expected: Callable[[bytes], bytes]
    spelled: Callable[[bytes], bytes]


def read_base64(text: bytes) -> bytes:
    """Decode base64 with its padding. Raises `ValueError` for other text.

    The unused bits of the last character must be zero, because otherwise one signature would have several spellings.
    """
    content = b64decode(text, validate=True)
    if b64encode(content) != text:
        raise ValueError("it is not canonical base64")
    return content


def read_base64url(text: bytes) -> bytes:
    """Decode base64url with all of its padding or none. Raises `ValueError` for other text."""
    bare = text.rstrip(b"=")
    padding = b"=" * (-len(bare) % 4)
    if not _OF_URLS.fullmatch(text) or text not in (bare, bare + padding):
        raise ValueError("it is not base64url")
    return read_base64((bare + padding).translate(_URL_SAFE))


def write_base64url(content: bytes) -> str:
    """Encode the bytes as base64url without padding."""
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def _as_base64(content: bytes) -> bytes:
    return b2a_base64(content, newline=False)


def _as_base64url(content: bytes) -> bytes:
    return urlsafe_b64encode(content).rstrip(b"=")


def _without_padding(text: bytes) -> bytes:
    """Remove correct padding. Wrong padding stays, so that the comparison fails."""
    return text.rstrip(b"=") if len(text) % 4 == 0 else text


def _unchanged(text: bytes) -> bytes:
    return text


ENCODINGS = {
    "hex": Encoding(lambda size: f"{2 * size} hexadecimal digits", bytes.hex, unhexlify, hexlify, bytes.lower),
    "base64": Encoding(
        lambda size: f"the base64 of {size} bytes",
        lambda content: b64encode(content).decode(),
        read_base64,
        _as_base64,
        _unchanged,
    ),
    "base64url": Encoding(
        lambda size: f"the base64url of {size} bytes", write_base64url, read_base64url, _as_base64url, _without_padding
    ),
}
