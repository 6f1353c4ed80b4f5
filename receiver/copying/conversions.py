"""Converts column values between databases: reads exact values, carries them in one form, and writes them unchanged.

The carried form of text is the text, of JSON its text, of a decimal its digits, of a time ISO 8601 in UTC. Columns of
other types, which only users' own tables have, are carried as SQLAlchemy's values.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum as PythonEnum
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CHAR,
    JSON,
    NCHAR,
    Boolean,
    Column,
    ColumnElement,
    Dialect,
    Enum,
    Float,
    Integer,
    LargeBinary,
    Numeric,
    String,
    Text,
    cast,
    func,
    type_coerce,
)
from sqlalchemy.types import NullType, TypeDecorator, TypeEngine
from sqlmodel import AutoString

from receiver import codec
from receiver.copying.numbers import (
    NotPortable,
    all_digits,
    any_float,
    as_real,
    bits_of,
    digits_within_scale,
    flag,
    float_digits,
    float_for_sqlite,
    integer_within,
    is_kept_by_sqlite,
    is_real,
    name_of_kind,
    real_for_postgresql,
    shortest_digits,
)
from receiver.database.columns import Document, ExactDecimal, UtcDateTime, iso_text
from receiver.database.errors import OF_WRONG_VALUES
from receiver.logs.safe_text import told_with_type

#: The types of texts that PostgreSQL fills up with blanks, which count for nothing.
PADDED = (CHAR, NCHAR)

#: Most characters of a value that a message shows.
SHOWN_OF_VALUE = 40


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
    if kind is None:
        read = _comparable_and_writable(writer(column, other))
    else:
        read = _reader(kind, column.type, postgresql, to_postgresql)
    return Conversion(
        column.name,
        selected=_selected(kind, column, postgresql),
        size=_size(kind, column, postgresql),
        read=read,
        compared=_comparison(kind, column.type, postgresql, to_postgresql),
    )


def _selected(kind: Any, column: Column[Any], postgresql: bool) -> ColumnElement[Any]:
    if kind is None:
        return column
    # As text, PostgreSQL gives a padded value without its blanks.
    is_text = kind in (ExactDecimal, UtcDateTime, Numeric, JSON) or isinstance(column.type, PADDED)
    return type_coerce(cast(column, Text) if postgresql and is_text else column, NullType())


def _size(kind: Any, column: Column[Any], postgresql: bool) -> ColumnElement[Any] | None:
    if kind in (String, LargeBinary):
        return func.octet_length(column) if postgresql else func.length(column)
    if kind in (JSON, None):
        return func.octet_length(cast(column, Text)) if postgresql else func.length(column)
    return None


def _reader(kind: Any, of: TypeEngine[Any], postgresql: bool, to_postgresql: bool) -> Callable[[Any], Any]:
    """The `read` of a column of the type `of`."""
    crosses = to_postgresql and not postgresql
    if kind is String:
        return _text_within(of) if crosses else _text_without_nul if to_postgresql else _text
    if kind is Integer:
        return integer_within(bits_of(of) if to_postgresql else 64)
    if kind is Float and crosses and is_real(of):
        return real_for_postgresql
    if kind is Float:
        return any_float if to_postgresql else float_for_sqlite
    if kind is Numeric and crosses:
        return digits_within_scale(of)
    if kind is Numeric:
        # SQLite converts the decimal to a float, so it must be exact as a float.
        return shortest_digits if to_postgresql else float_digits
    if kind is JSON:
        return _json_for_postgresql if to_postgresql else _json_for_sqlite
    others: dict[Any, Callable[[Any], Any]] = {
        LargeBinary: _bytes,
        Boolean: flag,
        ExactDecimal: all_digits,
        UtcDateTime: _moment,
    }
    return others[kind]


def _comparison(kind: Any, of: TypeEngine[Any], postgresql: bool, to_postgresql: bool) -> Callable[[Any], Any] | None:
    """The `compared` of a column of the type `of`."""
    if kind is None:
        return _comparable
    if kind is JSON:
        return _comparable_json
    return as_real if kind is Float and is_real(of) and postgresql != to_postgresql else None


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


# ── from the driver to the carried form ────────────────────────────────────────────────────────────────────────


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise NotPortable(f"holds {name_of_kind(value)} where text is declared")
    return value


def _text_without_nul(value: Any) -> str:
    if "\0" in _text(value):
        raise NotPortable("holds a NUL character, which PostgreSQL cannot keep in text")
    return str(value)


def _text_within(kind: Any) -> Callable[[Any], str]:
    """Make a function that reads text of a SQLite file, and refuses one that PostgreSQL would refuse or cut."""
    is_padded = isinstance(kind, PADDED)
    most = 1 if is_padded and kind.length is None else kind.length

    def text(value: Any) -> str:
        found = _text_without_nul(value)
        found = found.rstrip(" ") if is_padded else found
        if most is not None and len(found) > most:
            raise NotPortable(f"holds {len(found):,} characters, and this column takes {most:,} on PostgreSQL")
        return found

    return text


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise NotPortable(f"holds {name_of_kind(value)} where bytes are declared")
    return value


def _json_for_sqlite(value: Any) -> str:
    """The text of a JSON value, `null` too, which is not the absence of a value."""
    # NaN and Infinity, which Python writes as JSON, stay text in SQLite.
    text, found = _json(value, str)
    if type(found) in (int, float) and not is_kept_by_sqlite(text):
        raise NotPortable("holds a number in JSON with more digits than SQLite keeps outside of a list or an object")
    return text


def _json_for_postgresql(value: Any) -> str:
    return _json(value, _refuse_constant)[0]


def _json(value: Any, constant: Callable[[str], Any]) -> tuple[str, Any]:
    """The text of a JSON value, and the value. SQLite keeps a number that is not in a list or object as a number."""
    text = value if isinstance(value, str) else repr(value)
    if not isinstance(value, (str, int, float)):
        raise NotPortable(f"holds {name_of_kind(value)} where JSON is declared")
    try:
        return text, json.loads(text, parse_constant=constant)
    except (ValueError, RecursionError):
        raise NotPortable("holds text that is not JSON") from None


def _refuse_constant(name: str) -> float:
    """Refuse NaN and Infinity, which Python writes as JSON, and PostgreSQL refuses."""
    raise NotPortable(f"holds {name} in JSON, which PostgreSQL cannot keep")


@lru_cache(maxsize=4_096)
def _moment(value: Any) -> str:
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise NotPortable(f"holds {_shown(value)}, a time without its offset from UTC")
        return str(iso_text(moment))
    except TypeError:
        raise NotPortable(f"holds {name_of_kind(value)} where a time is declared") from None
    except (ValueError, OverflowError):
        raise NotPortable(f"holds {_shown(value)}, which is not a time between the years 1 and 9999") from None


def _shown(value: Any) -> str:
    return repr(str(value)[:SHOWN_OF_VALUE])


# ── comparing values of the types that are left to SQLAlchemy ─────────────────────────────────────────────────────


def _comparable_and_writable(write: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    """Make a function that reads a value, and refuses one that cannot be compared or that `write` cannot convert."""

    def read(value: Any) -> Any:
        _comparable(value)
        try:
            if write is not None:
                write(value)
        except OF_WRONG_VALUES as error:
            raise NotPortable(f"holds a value that the other database cannot keep ({told_with_type(error)})") from None
        return value

    return read


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
            return shortest_digits(value)
        case UUID():
            return str(value)
        case dict() | list() | tuple():
            return codec.canonical(value)
    raise NotPortable(f"holds a {type(value).__name__}, which cannot be compared")


def _comparable_json(text: str) -> bytes:
    return codec.canonical(json.loads(text, parse_int=_json_number, parse_float=_json_number))


def _json_number(text: str) -> dict[str, str]:
    """The number in one form, since a database may write 1.0 as 1, and 1e3 as 1000."""
    return {"number": shortest_digits(text)}
