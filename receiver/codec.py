"""JSON in and out without loss: fractions become Decimal and are written back digit for digit, never as floats."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any, NoReturn

import msgspec

from receiver.errors import Unreadable
from receiver.sniffing import sniff

_decoder = msgspec.json.Decoder(float_hook=Decimal)
_encoder = msgspec.json.Encoder(decimal_format="number")
_canonical = msgspec.json.Encoder(decimal_format="number", order="sorted")


#: An escaped backslash, a pair of surrogates, or half a pair, as JSON escapes them.
_SURROGATES = re.compile(
    rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


def decode(text: bytes | str) -> Any:
    """The value of a JSON document, fractions as Decimal; the last of repeated keys wins. Raises `Unreadable`.

    A byte order mark is skipped, and UTF-16 and UTF-32 are recognised by the first bytes. Half a surrogate pair,
    which some senders make by cutting text, becomes U+FFFD.
    """
    try:
        return _decode(text)
    except msgspec.DecodeError as error:
        content = text.encode() if isinstance(text, str) else text
        mended = _mended(content)
        if mended == content:
            _refuse(content, error)
    try:
        return _decode(mended)
    except msgspec.DecodeError as error:
        _refuse(mended, error)


def _decode(text: bytes | str) -> Any:
    """As `decode`, but raises `DecodeError` for documents that can be repaired."""
    try:
        return _decoder.decode(text)
    except msgspec.DecodeError:
        raise
    except RecursionError:
        raise Unreadable("The body is JSON nested too deeply to be read.") from None
    except UnicodeError:
        raise Unreadable("The body is not JSON: it is not valid UTF-8.") from None
    except ArithmeticError:
        raise Unreadable("The body holds a number whose exponent is out of range.") from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise Unreadable(f"The body is not JSON: {error}.") from None


def _mended(content: bytes) -> bytes:
    """The document with known deviations from JSON repaired; unchanged if there are none."""
    encoding = json.detect_encoding(content)
    if encoding != "utf-8":
        try:
            content = content.decode(encoding).removeprefix("\ufeff").encode()
        except UnicodeError:
            return content
    return _SURROGATES.sub(lambda found: rb"\ufffd" if found["half"] else found[0], content)


def _refuse(content: bytes, error: msgspec.DecodeError) -> NoReturn:
    wrong = sniff(content)
    raise Unreadable(f"The body is not JSON: {wrong}" if wrong else f"The body is not JSON: {error}.") from None


def encode(value: Any) -> bytes:
    """Compact JSON; Decimal as a number with all its digits, datetime as ISO 8601."""
    return _encoder.encode(value)


def canonical(value: Any) -> bytes:
    """JSON with sorted keys: equal values give equal bytes, in whatever order their keys arrived."""
    return _canonical.encode(value)


def shortened(value: Any, longest: int = 80) -> str:
    """Compact JSON for people, cut with `…` after the given number of characters."""
    text = encode(value).decode()
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def storable(text: str) -> str:
    """The text with every NUL and lone surrogate replaced by U+FFFD: no database column takes them.

    Always exact text: the methods of a subclass would run in the middle of a batch.
    """
    if type(text) is not str:
        text = str.__str__(text)
    if "\0" in text:
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
