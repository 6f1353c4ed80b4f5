"""JSON in and out without loss: fractions become Decimal and are written back digit for digit, never as floats."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, NoReturn

import msgspec

from receiver.errors import Unreadable
from receiver.huge_numbers import HugeNumber, any_number, usual_number
from receiver.sniffing import sniff

#: The most zeros that are written out in place of an exponent. Those of a short number could fill the memory.
MOST_ZEROS = 1_000

#: What is wrong with a document that has bytes which are not text.
NOT_UTF_8 = "The body is not JSON: it is not valid UTF-8."

#: The types whose values are written in a form of their own, each with the function that makes it.
_forms: dict[type, Callable[[Any], Any]] = {}


def write_as(kind: type, form: Callable[[Any], Any]) -> None:
    """Write values of exactly this type, which JSON does not know, as `form` returns them."""
    _forms[kind] = form


def _form_of(value: Any) -> Any:
    form = _forms.get(type(value))
    if form is None:
        raise TypeError(f"JSON has no form for a value of the type {type(value).__name__}")
    return form(value)


write_as(HugeNumber, lambda number: number.exact)

_decoder = msgspec.json.Decoder(float_hook=usual_number)
_decoder_of_unusual = msgspec.json.Decoder(float_hook=any_number)
_encoder = msgspec.json.Encoder(decimal_format="number", enc_hook=_form_of)
_canonical = msgspec.json.Encoder(decimal_format="number", order="sorted", enc_hook=_form_of)


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
        return _decoder.decode(text)
    except Exception:
        return _decode_unusual(text)


def _decode_unusual(text: bytes | str) -> Any:
    """Decode a document at which the decoder failed. Raises `Unreadable`."""
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
    """Decode without repairs. Raises `DecodeError` for documents that may be repaired."""
    try:
        return _decoder_of_unusual.decode(text)
    except msgspec.DecodeError as error:
        # msgspec 0.23 no longer raises UnicodeDecodeError for it.
        if str(error).startswith("Invalid UTF-8"):
            raise Unreadable(NOT_UTF_8) from None
        raise
    except RecursionError:
        raise Unreadable("The body is JSON nested too deeply to be read.") from None
    except UnicodeError:
        raise Unreadable(NOT_UTF_8) from None
    except ArithmeticError:
        raise Unreadable("The body holds a number whose exponent is out of range.") from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise Unreadable(f"The body is not JSON: {error}.") from None


def _mended(content: bytes) -> bytes:
    """Repair known deviations from JSON in the document; without any, return it unchanged."""
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


#: The types with values that are equal in Python and not in JSON, such as 1 and true, or 1.0 and 1.00.
_LOOSE = frozenset({bool, int, Decimal, HugeNumber, dict, list})


def describe_shape(shape: Any) -> None:
    """Let msgspec describe a type that parsed JSON is converted into. Call it while the module of the type is imported.

    Otherwise msgspec collects the description step by step when the type is first used. A second thread that uses the
    type meanwhile uses the incomplete description, and crashes the process.
    """
    msgspec.json.Decoder(shape)


def is_same(one: Any, other: Any) -> bool:
    """Whether both values are the same JSON, the digits of numbers included; the order of keys does not matter."""
    return one is other or (
        one == other and (one.__class__ not in _LOOSE or _canonical.encode(one) == _canonical.encode(other))
    )


def is_equal(one: Any, other: Any) -> bool:
    """Whether both values mean the same in JSON: as `is_same`, but 1, 1.0 and 1.00 are one number."""
    return is_same(one, other) or (one == other and _have_the_same_booleans(one, other))


def changed_members(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The members of `after` that are not the same in `before`, which has them all."""
    # Without a call for each member, because this runs for every event.
    return [
        name
        for name, value in after.items()
        if (old := before[name]) is not value
        and (value != old or (value.__class__ in _LOOSE and _canonical.encode(value) != _canonical.encode(old)))
    ]


def _have_the_same_booleans(one: Any, other: Any) -> bool:
    """Whether two values that are equal in Python have their booleans at the same places."""
    pairs = [(one, other)]
    while pairs:
        one, other = pairs.pop()
        if isinstance(one, dict):
            pairs += [(value, other[name]) for name, value in one.items()]
        elif isinstance(one, list):
            pairs += zip(one, other, strict=True)
        elif isinstance(one, bool) is not isinstance(other, bool):
            return False
    return True


def shortened(value: Any, longest: int = 80) -> str:
    """Compact JSON for people, cut with `…` after the given number of characters."""
    text = encode(value).decode()
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def plain(value: Any) -> Any:
    """Format a decimal as text with all its digits, and a time as ISO 8601.

    A decimal that would need more than `MOST_ZEROS` keeps its exponent.
    """
    if isinstance(value, Decimal):
        return format(value, "f") if -MOST_ZEROS <= value.adjusted() <= MOST_ZEROS else str(value)
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value


def storable(text: str) -> str:
    """Replace every NUL and lone surrogate by U+FFFD, because no database column takes them.

    Always plain text, because the methods of a subclass would run in the middle of a batch.
    """
    if type(text) is not str:
        text = str.__str__(text)
    if "\0" in text:
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
