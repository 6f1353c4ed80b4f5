"""Types of SQLite's columns that read any stored value, because SQLite stores every kind of value in every column."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Dialect, Engine, Float, Integer, LargeBinary

from receiver.database.damage import damaged_number


def read_any_value(engine: Engine) -> None:
    """Make this engine read numbers and bytes that were edited by hand as values of the column's kind."""
    engine.dialect.colspecs = {**engine.dialect.colspecs, **_TYPES}


class RowNumber(Integer):
    """The number of a row, the only kind of column in which SQLite stores nothing else."""


class _Whole(Integer):
    """A whole number. Anything else is read as damage."""

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:  # noqa: ARG002 (signature is SQLAlchemy's)
        return _whole


class _Fraction(Float[float]):
    """A number. Anything else is read as damage."""

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:  # noqa: ARG002 (signature is SQLAlchemy's)
        return _fraction


class _Bytes(LargeBinary):
    """Bytes. A text, which a person writes most easily in place of bytes, is read as its bytes in UTF-8."""

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:  # noqa: ARG002 (signature is SQLAlchemy's)
        return _bytes


_TYPES = {RowNumber: RowNumber, Integer: _Whole, Float: _Fraction, LargeBinary: _Bytes}


# These run for each value of each row, so they ask a value for its class instead of calling `type`.


def _whole(value: Any) -> int | None:
    return value if value is None or value.__class__ is int else damaged_number(value)


def _fraction(value: Any) -> float | None:
    return value if value is None or value.__class__ in (float, int) else damaged_number(value)


def _bytes(value: Any) -> bytes | None:
    if value is None or value.__class__ is bytes:
        return value
    return str(value).encode("utf-8", "surrogateescape")
