"""Converts column values between databases: reads exact values, carries them in one form, and writes them unchanged.

The carried form of text is the text, of JSON its text, of a decimal its digits, of a time ISO 8601 in UTC. Columns of
other types, which only users' own tables have, are carried as SQLAlchemy's values.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from enum import Enum as PythonEnum
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Dialect,
    Enum,
    Float,
    Integer,
    LargeBinary,
    Numeric,
    SmallInteger,
    String,
    Text,
    cast,
    func,
    type_coerce,
)
from sqlalchemy.types import NullType, TypeDecorator, TypeEngine
from sqlmodel import AutoString

from receiver import codec
from receiver.database.columns import Document, ExactDecimal, UtcDateTime, iso_text

#: Most digits of a number on PostgreSQL, before and after the point.
MOST_DIGITS, MOST_FRACTION = 131_072, 16_383

#: Most characters of a value that a message shows.
SHOWN_OF_VALUE = 40


class NotPortable(Exception):
    """A value that the other database cannot hold, or that does not fit its column's type; the message says why."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """The conversion of one column's values."""

    name: str
    #: The selected expression.
    selected: ColumnElement[Any]
    #: Its approximate number of bytes; None for values that are always small.
    size: ColumnElement[Any] | None
    #: Converts the driver's value, if it is not None, into the value carried. Raises `NotPortable`.
    read: Callable[[Any], Any]
    #: Converts the carried value into the compared one; None if they are the same.
    compared: Callable[[Any], Any] | None


def conversion(column: Column[Any], dialect: Dialect, *, other: Dialect) -> Conversion:
    """Make the conversion of a column read on a database of `dialect`, for a database of `other`."""
    kind = _kind(column.type)
    postgresql, to_postgresql = dialect.name == "postgresql", other.name == "postgresql"
    crosses = to_postgresql and not postgresql
    raw = type_coerce(column, NullType())
    as_text = type_coerce(cast(column, Text), NullType()) if postgresql else raw
    size = (func.octet_length(column) if postgresql else func.length(column)) if kind in (String, LargeBinary) else None
    if kind is String:
        return Conversion(column.name, raw, size, _text_without_nul if to_postgresql else _text, None)
    if kind is LargeBinary:
        return Conversion(column.name, raw, size, _bytes, None)
    if kind is Integer:
        return Conversion(column.name, raw, None, _integer_within(_bits(column.type) if to_postgresql else 64), None)
    if kind is Boolean:
        return Conversion(column.name, raw, None, _flag, None)
    if kind is Float:
        return Conversion(column.name, raw, None, _float if to_postgresql else _float_of_sqlite, None)
    if kind is ExactDecimal:
        return Conversion(column.name, as_text, None, _digits, None)
    if kind is UtcDateTime:
        return Conversion(column.name, as_text, None, _moment, None)
    if kind is Numeric:
        # SQLite converts the decimal to a float, so it must be exact as a float.
        read = _number if to_postgresql and postgresql else _float_number
        return Conversion(column.name, as_text, None, _within_scale(column.type) if crosses else read, None)
    size = func.octet_length(cast(column, Text)) if postgresql else func.length(column)
    if kind is JSON:
        return Conversion(
            column.name, as_text, size, _json_for_postgresql if to_postgresql else _json_for_sqlite, _comparable_json
        )
    return Conversion(column.name, column, size, _comparable_at_all, _comparable)


def writer(column: Column[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    """A function that converts a carried value for the target's driver; None if the driver takes the carried value."""
    if _kind(column.type) is not None:
        return None
    return column.type.dialect_impl(dialect).bind_processor(dialect)


def _kind(kind: TypeEngine[Any]) -> Any:
    """The class that decides how values of a type are carried; None for types that are left to SQLAlchemy."""
    for ours in (ExactDecimal, UtcDateTime):
        if isinstance(kind, ours):
            return ours
    if isinstance(kind, (Document, AutoString)):
        return String
    if isinstance(kind, (TypeDecorator, Enum)):
        return None
    # SQLAlchemy's Float is a subclass of Numeric, so it comes first.
    return next(
        (base for base in (String, LargeBinary, Integer, Boolean, Float, Numeric, JSON) if isinstance(kind, base)), None
    )


def _bits(kind: TypeEngine[Any]) -> int:
    if isinstance(kind, BigInteger):
        return 64
    return 16 if isinstance(kind, SmallInteger) else 32


# ── from the driver to the carried form ────────────────────────────────────────────────────────────────────────


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise NotPortable(f"holds {_what(value)} where text is declared")
    return value


def _text_without_nul(value: Any) -> str:
    if "\0" in _text(value):
        raise NotPortable("holds a NUL character, which PostgreSQL cannot keep in text")
    return str(value)


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise NotPortable(f"holds {_what(value)} where bytes are declared")
    return value


def _integer_within(bits: int) -> Callable[[Any], int]:
    limit = 1 << (bits - 1)

    def integer(value: Any) -> int:
        if type(value) is not int:
            raise NotPortable(f"holds {_what(value)} where a whole number is declared")
        if not -limit <= value < limit:
            raise NotPortable(f"holds {value}, which is beyond the {bits} bits of this column on PostgreSQL")
        return value

    return integer


def _flag(value: Any) -> bool:
    if value not in (0, 1):
        raise NotPortable(f"holds {_what(value)} where true or false is declared")
    return bool(value)


def _float(value: Any) -> float:
    if not isinstance(value, (int, float)):
        raise NotPortable(f"holds {_what(value)} where a number is declared")
    # SQLite keeps no negative zero, and adding zero makes it positive.
    return float(value) + 0.0


def _float_of_sqlite(value: Any) -> float:
    number = _float(value)
    if math.isnan(number):
        raise NotPortable("holds NaN, which SQLite cannot keep")
    return number


def _json_for_sqlite(value: Any) -> str:
    """The text of a JSON value, `null` too, which is not the absence of a value."""
    # NaN and Infinity, which Python writes as JSON, stay text in SQLite.
    text, found = _json(value, str)
    if type(found) in (int, float) and not _is_kept_by_sqlite(text):
        raise NotPortable("holds a number in JSON with more digits than SQLite keeps outside of a list or an object")
    return text


def _json_for_postgresql(value: Any) -> str:
    return _json(value, _refuse_constant)[0]


def _json(value: Any, constant: Callable[[str], Any]) -> tuple[str, Any]:
    """The text of a JSON value, and the value. SQLite keeps a number that is not in a list or object as a number."""
    text = value if isinstance(value, str) else repr(value)
    if not isinstance(value, (str, int, float)):
        raise NotPortable(f"holds {_what(value)} where JSON is declared")
    try:
        return text, json.loads(text, parse_constant=constant)
    except (ValueError, RecursionError):
        raise NotPortable("holds text that is not JSON") from None


def _refuse_constant(name: str) -> float:
    """Refuse NaN and Infinity, which Python writes as JSON, and PostgreSQL refuses."""
    raise NotPortable(f"holds {name} in JSON, which PostgreSQL cannot keep")


def _is_kept_by_sqlite(number: str) -> bool:
    exact, rounded = Decimal(number), float(number)
    is_integer = abs(exact) < 1 << 63 and exact == int(exact)
    return is_integer or (math.isfinite(rounded) and Decimal(repr(rounded)) == exact)


def _digits(value: Any) -> str:
    """Format a decimal with all its digits, in a form that both databases write."""
    number = _decimal(value)
    if not number.is_finite():
        return str(number)
    if number.adjusted() >= MOST_DIGITS or -int(number.as_tuple().exponent) > MOST_FRACTION:
        raise NotPortable("holds a number with more digits than PostgreSQL keeps")
    # PostgreSQL has no negative zero.
    return format(number if number else number.copy_abs(), "f")


def _number(value: Any) -> str:
    """A decimal without trailing zeros, because only some databases fill up the column's scale with zeros."""
    digits = _digits(value)
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def _float_number(value: Any) -> str:
    number = _number(repr(value) if isinstance(value, float) else value)
    if not math.isfinite(float(number)):
        raise NotPortable("holds a number that SQLite keeps only in a column for an exact decimal")
    if Decimal(number) != Decimal(repr(float(number))):
        raise NotPortable("holds more digits than SQLite keeps in a column that is not an exact decimal")
    return number


def _within_scale(kind: Any) -> Callable[[Any], str]:
    """Make a function that reads a decimal of a SQLite file, and refuses one that PostgreSQL would round."""
    # A precision alone means whole numbers; without both, PostgreSQL keeps all digits.
    scale = kind.scale if kind.scale is not None or kind.precision is None else 0

    def number(value: Any) -> str:
        digits = _float_number(value)
        if scale is not None and len(digits.partition(".")[2]) > scale:
            raise NotPortable(f"holds {digits}, which PostgreSQL would round to {scale} digits behind the point")
        return digits

    return number


def _decimal(value: Any) -> Decimal:
    try:
        return Decimal(value)
    except (InvalidOperation, TypeError, ValueError):
        raise NotPortable(f"holds {_what(value)} where a decimal is declared") from None


@lru_cache(maxsize=4_096)
def _moment(value: Any) -> str:
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise NotPortable(f"holds {_shown(value)}, a time without its offset from UTC")
        return str(iso_text(moment))
    except TypeError:
        raise NotPortable(f"holds {_what(value)} where a time is declared") from None
    except (ValueError, OverflowError):
        raise NotPortable(f"holds {_shown(value)}, which is not a time between the years 1 and 9999") from None


def _shown(value: Any) -> str:
    return repr(str(value)[:SHOWN_OF_VALUE])


def _what(value: Any) -> str:
    """Name the kind of a value for a message, since the value itself may be private."""
    names: dict[type, str] = {str: "text", bytes: "bytes", float: "a fraction", int: "a number"}
    return names.get(type(value), type(value).__name__)


# ── comparing values of the types that are left to SQLAlchemy ─────────────────────────────────────────────────────


def _comparable_at_all(value: Any) -> Any:
    _comparable(value)
    return value


def _comparable(value: Any) -> Any:
    """Convert a value into a form that is equal on both databases for equal values."""
    match value:
        case None | bool() | int() | float() | bytes():
            return value
        case PythonEnum():
            return value.name
        case str():
            return value
        case datetime():
            # SQLite drops the offset, and all times here are in UTC.
            return (value if value.tzinfo is None else value.astimezone(UTC)).replace(tzinfo=None).isoformat()
        case date() | time():
            return value.isoformat()
        case timedelta():
            return value // timedelta(microseconds=1)
        case Decimal():
            return _number(value)
        case UUID():
            return str(value)
        case dict() | list() | tuple():
            return codec.canonical(value)
    raise NotPortable(f"holds a {type(value).__name__}, which cannot be compared")


def _comparable_json(text: str) -> bytes:
    return codec.canonical(json.loads(text, parse_int=_json_number, parse_float=_json_number))


def _json_number(text: str) -> dict[str, str]:
    """The number in one form, since a database may write 1.0 as 1, and 1e3 as 1000."""
    return {"number": _number(text)}
