"""Converts the values that handlers give into the stored form of their columns, or refuses them by name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, cast

from sqlalchemy import BigInteger, Boolean, Integer, String
from sqlalchemy.types import TypeEngine

from receiver import codec
from receiver.database.columns import LARGEST_EXPONENT, Document, ExactDecimal, UtcDateTime, by_kind
from receiver.envelope import LONGEST_NAME
from receiver.errors import HandlerError, Unreadable
from receiver.logs.safe_text import name_of, quoted, told
from receiver.moments import in_utc

#: Converts a value other than None into the stored form, given the column's name. Raises `HandlerError`, or
#: `Unreadable` for a time that must be the source's mistake.
Normalizer = Callable[[str, Any], Any]


#: The most bytes in UTF-8 of a text in a column with an index: as many as the longest id may have. PostgreSQL's indexes
#: take 2,704 bytes.
LONGEST_INDEXED_TEXT = 4 * LONGEST_NAME


def normalizer(kind: TypeEngine[Any], *, is_indexed: bool = False) -> Normalizer:
    """The function that converts values into the stored form of a column of type `kind`, which may have an index."""
    found = cast("Normalizer", by_kind(kind, _CONVERTERS, lambda _, value: value))
    return INDEXED_TEXT_NORMALIZER if is_indexed and found is _text else found


def _decimal(name: str, value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (Decimal, int, str)):
        raise HandlerError(f"`{name}` takes a Decimal, not {_what(value)}: a float has lost digits already.")
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise HandlerError(f"`{name}` takes a Decimal, and {quoted(value)} is not a number.") from None
    if not number.is_finite() or max(abs(number.adjusted()), -int(number.as_tuple().exponent)) > LARGEST_EXPONENT:
        raise HandlerError(f"`{name}` takes a Decimal within 10^±{LARGEST_EXPONENT}, and {quoted(value)} is beyond.")
    # As every database returns it, or each event would be a change: without an exponent, and without a negative zero.
    number = Decimal(format(number, "f"))
    return number or number.copy_abs()


def _moment(name: str, value: Any) -> datetime:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise HandlerError(f"`{name}` takes a datetime with its offset, not {_what(value)}.")
    try:
        return in_utc(value)
    except ValueError as error:
        # The source's mistake, not the handler's: a second attempt would find the same time in the body.
        raise Unreadable(f"`{name}` cannot keep the time {value.isoformat()}: {error}.") from None


def document(name: str, value: Any) -> Any:
    """Copy a value into the types that JSON has."""
    try:
        return codec.decode(codec.encode(value))
    except (TypeError, ValueError, RecursionError, Unreadable) as error:
        raise HandlerError(f"`{name}` takes a value that JSON can express: {told(error)}.") from None


def _text(name: str, value: Any) -> str:
    if type(value) is str and value.isascii() and "\0" not in value:
        # Nearly every text is so, and stays as it is.
        return value
    if not isinstance(value, str):
        raise HandlerError(f"`{name}` takes text, not {_what(value)}.")
    return codec.storable(value)


def _indexed_text(name: str, value: Any) -> str:
    text = _text(name, value)
    # No character takes more than four bytes.
    if len(text) > LONGEST_INDEXED_TEXT // 4 and len(text.encode()) > LONGEST_INDEXED_TEXT:
        # The source's mistake, for the reason that `_moment` gives.
        raise Unreadable(
            f"`{name}` has an index, which takes at most {LONGEST_INDEXED_TEXT:,} bytes, and this text has more. "
            "Let the dialect shorten it, or leave it out."
        )
    return text


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise HandlerError(f"`{name}` takes true or false, not {_what(value)}.")
    return value


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise HandlerError(f"`{name}` takes a whole number of at most 64 bits, not {_what(value)}.")
    return value


def _what(value: Any) -> str:
    return f"the {name_of(value)} {quoted(value)}"


#: The function that converts text for a column with an index.
INDEXED_TEXT_NORMALIZER: Normalizer = _indexed_text

#: Functions that convert values into types that JSON has.
PLAIN_NORMALIZERS = frozenset({document, _text, _indexed_text, _flag, _integer})

_CONVERTERS: tuple[tuple[Any, Any], ...] = (
    (ExactDecimal, _decimal),
    (UtcDateTime, _moment),
    (Document, document),
    (Boolean, _flag),
    ((Integer, BigInteger), _integer),
    (String, _text),
)
