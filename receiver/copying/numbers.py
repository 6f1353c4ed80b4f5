"""Numbers on their way between two databases: read exactly, or refused if the other database would change them."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from sqlalchemy import REAL, BigInteger, Double, SmallInteger
from sqlalchemy.types import TypeEngine

#: Most digits of a number on PostgreSQL, before and after the point.
MOST_DIGITS, MOST_FRACTION = 131_072, 16_383

#: The precision of a float in bits up to which PostgreSQL stores it in four bytes.
MOST_BITS_OF_REAL = 24


class NotPortable(Exception):
    """A value that the other database cannot hold, or that does not fit its column's type; the message says why."""


def name_of_kind(value: Any) -> str:
    """Name the kind of a value for a message, since the value itself may be private."""
    names: dict[type, str] = {str: "text", bytes: "bytes", float: "a fraction", int: "a number"}
    return names.get(type(value), type(value).__name__)


def bits_of(kind: TypeEngine[Any]) -> int:
    if isinstance(kind, BigInteger):
        return 64
    return 16 if isinstance(kind, SmallInteger) else 32


def integer_within(bits: int) -> Callable[[Any], int]:
    limit = 1 << (bits - 1)

    def integer(value: Any) -> int:
        if type(value) is not int:
            raise NotPortable(f"holds {name_of_kind(value)} where a whole number is declared")
        if not -limit <= value < limit:
            raise NotPortable(f"holds {value}, which is beyond the {bits} bits of this column on PostgreSQL")
        return value

    return integer


def flag(value: Any) -> bool:
    if value not in (0, 1):
        raise NotPortable(f"holds {name_of_kind(value)} where true or false is declared")
    return bool(value)


def any_float(value: Any) -> float:
    if not isinstance(value, (int, float)):
        raise NotPortable(f"holds {name_of_kind(value)} where a number is declared")
    # SQLite keeps no negative zero, and adding zero makes it positive.
    return float(value) + 0.0


def float_for_sqlite(value: Any) -> float:
    number = any_float(value)
    if math.isnan(number):
        raise NotPortable("holds NaN, which SQLite cannot keep")
    return number


def is_real(kind: Any) -> bool:
    """Whether PostgreSQL stores a float of this type in four bytes. SQLite always takes eight."""
    is_short = kind.precision is not None and kind.precision <= MOST_BITS_OF_REAL
    return isinstance(kind, REAL) or (is_short and not isinstance(kind, Double))


def as_real(value: float) -> float:
    """The number that PostgreSQL keeps in four bytes."""
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def real_for_postgresql(value: Any) -> float:
    """Read a float of a SQLite file, and refuse one that PostgreSQL would round in four bytes."""
    number = any_float(value)
    kept = as_real(number)
    # 0.1 is 0.100000001 in four bytes, which PostgreSQL shows as 0.1, so nothing is lost.
    if number not in (kept, shown := _shortest(kept)):
        raise NotPortable(
            f"holds {number!r}, which PostgreSQL would round to {shown!r} in the four bytes of this column: round it, "
            "or declare the column as Double"
        )
    return number


def _shortest(kept: float) -> float:
    """The number with the fewest digits that PostgreSQL shows for this one in four bytes."""
    written = (float(f"{kept:.{digits}g}") for digits in range(1, 10))
    return next((each for each in written if each == kept or _is_nearest(kept, each)), kept)


def _is_nearest(kept: float, number: float) -> bool:
    # Not halfway to the next one, as 9e9 is, because PostgreSQL shows no such number.
    mirrored = 2 * number - kept
    return as_real(number) == kept and as_real(mirrored) != mirrored


def is_kept_by_sqlite(number: str) -> bool:
    exact, rounded = Decimal(number), float(number)
    is_integer = abs(exact) < 1 << 63 and exact == int(exact)
    return is_integer or (math.isfinite(rounded) and Decimal(repr(rounded)) == exact)


def all_digits(value: Any) -> str:
    """Format a decimal with all its digits, in a form that both databases write."""
    number = _decimal(value)
    if not number.is_finite():
        return str(number)
    if number.adjusted() >= MOST_DIGITS or -int(number.as_tuple().exponent) > MOST_FRACTION:
        raise NotPortable("holds a number with more digits than PostgreSQL keeps")
    # PostgreSQL has no negative zero.
    return format(number if number else number.copy_abs(), "f")


def shortest_digits(value: Any) -> str:
    """A decimal without trailing zeros, because only some databases fill up the column's scale with zeros."""
    digits = all_digits(value)
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def float_digits(value: Any) -> str:
    number = shortest_digits(repr(value) if isinstance(value, float) else value)
    if not math.isfinite(float(number)):
        raise NotPortable("holds a number that SQLite keeps only in a column for an exact decimal")
    if Decimal(number) != Decimal(repr(float(number))):
        raise NotPortable("holds more digits than SQLite keeps in a column that is not an exact decimal")
    return number


def digits_within_scale(kind: Any) -> Callable[[Any], str]:
    """Make a function that reads a decimal of a SQLite file, and refuses one that PostgreSQL would round."""
    # A precision alone means whole numbers; without both, PostgreSQL keeps all digits.
    scale = kind.scale if kind.scale is not None or kind.precision is None else 0

    def number(value: Any) -> str:
        digits = float_digits(value)
        if scale is not None and len(digits.partition(".")[2]) > scale:
            raise NotPortable(f"holds {digits}, which PostgreSQL would round to {scale} digits behind the point")
        return digits

    return number


def _decimal(value: Any) -> Decimal:
    try:
        return Decimal(value)
    except (InvalidOperation, TypeError, ValueError):
        raise NotPortable(f"holds {name_of_kind(value)} where a decimal is declared") from None
