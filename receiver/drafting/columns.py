"""Columns: guesses the columns of a mirror table from one example of a sender's object."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from inspect import signature
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, TypeAdapter, ValidationError

from receiver.codec import plain, storable
from receiver.drafting.naming import TYPES, literal, model_field, snake_case, words_in
from receiver.huge_numbers import HugeNumber
from receiver.mirror.news import Mirror
from receiver.mirror.rows import ACTIVE, MirrorRow
from receiver.moments import in_utc, is_zero

#: The most columns of a drafted table.
MOST_COLUMNS = 30

#: The bound on whole numbers that every database takes.
LARGEST_COUNT = 2**31

ColumnKind = Literal["text", "whole", "flag", "exact", "time", "object", "list"]

#: For each kind, its type in the model, its type in the table, and the field of the table.
_TYPES: Mapping[ColumnKind, tuple[str, str, str]] = {
    "text": ("str", "str", "None"),
    "whole": ("int", "int", "None"),
    "flag": ("bool", "bool", "None"),
    "exact": ("Decimal", "Decimal", "price_field()"),
    "time": ("AwareDatetime", "datetime", "time_field()"),
    "object": ("dict[str, Any]", "dict[str, Any]", "document_field()"),
    "list": ("list[Any]", "list[Any]", "document_field()"),
}

#: Words in the names of exact numbers, which some senders write as text.
_EXACT = frozenset({"price", "amount", "cost", "total", "rate", "tax", "discount", "fee"})

#: Words in the names of quantities, which have fractions although a captured one may have none.
_MEASURED = frozenset(
    {
        *("quantity", "qty", "stock", "weight", "height", "width", "length", "depth", "volume", "size", "balance"),
        *("percent", "percentage", "margin", "available", "level", "value", "discount"),
    }
)

#: A number as text. One with zeros in front, such as `0190`, is a code.
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,15})?")

_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}")

_AWARE: TypeAdapter[datetime] = TypeAdapter(AwareDatetime)

#: The names of parameters of `mirror.upsert`, which no argument for a column may have.
_PARAMETERS = {each.name for each in signature(Mirror.upsert).parameters.values() if each.kind is each.KEYWORD_ONLY}

#: Names that cannot be columns, because tables, models, `mirror.upsert` or files with expected rows use them.
_TAKEN = frozenset({ACTIVE, "parent", "parent_table", "data", "registry", "table", *TYPES, *_PARAMETERS})


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a drafted table, and the member of the sender's object that fills it."""

    member: str
    name: str
    kind: ColumnKind
    #: The example's value as the API shows it.
    shown: Any

    @property
    def in_table(self) -> str:
        """The column's line in the table."""
        _, kind, field = _TYPES[self.kind]
        return f"{self.name}: {kind} | None = {field}"

    @property
    def in_model(self) -> str:
        """The column's line in the model of the sender's object."""
        start = f"{self.name}: {_TYPES[self.kind][0]} | None"
        if self.name == self.member:
            return f"{start} = None"
        return model_field(start, ["default=None", f"alias={literal(self.member)}"])


def columns_of(data: Mapping[str, Any], *, but: Collection[str], kind: str) -> tuple[list[Column], list[str]]:
    """Guess the columns for the members of an object, except those named in `but`.

    `kind` is the kind of the entity. Also returns the members for which no column was found.
    """
    found: dict[str, Column] = {}
    for column in _columns(data, but, kind):
        if len(found) < MOST_COLUMNS:
            found.setdefault(column.name, column)
    having = {column.member for column in found.values()}
    return list(found.values()), [member for member in data if member not in having and member not in but]


def _columns(data: Mapping[str, Any], but: Collection[str], kind: str) -> Iterator[Column]:
    for member, value in data.items():
        name = snake_case(member)
        if name in _TAKEN or hasattr(MirrorRow, name) or name in MirrorRow.model_fields or hasattr(BaseModel, name):
            name = snake_case(f"{kind}_{name}")
        if name and member not in but and value is not None:
            yield Column(member, name, *_kind_of(name, value))


def _kind_of(name: str, value: Any) -> tuple[ColumnKind, Any]:
    """Guess the kind of a column for this value. Also returns the value as the API shows it."""
    if isinstance(value, bool):
        return "flag", value
    if isinstance(value, HugeNumber):
        return "text", str(value)
    if isinstance(value, (dict, list)):
        return "object" if isinstance(value, dict) else "list", value
    is_exact = not _EXACT.isdisjoint(words_in(name))
    if isinstance(value, str):
        moment = moment_in(value)
        if moment is not None:
            return "time", moment.isoformat().replace("+00:00", "Z")
        return ("exact", _shown(value)) if is_exact and _DECIMAL.fullmatch(value) else ("text", storable(value))
    if isinstance(value, Decimal) or is_exact or not _MEASURED.isdisjoint(words_in(name)[-1:]):
        return "exact", _shown(value)
    if words_in(name)[-1:] in (["id"], ["ids"], ["number"]) or abs(value) >= LARGEST_COUNT:
        return "text", str(value)
    return "whole", value


def _shown(number: Decimal | int | str) -> str:
    """Write a number as the API shows it: without an exponent, and without a negative zero."""
    exact = Decimal(number)
    return str(plain(exact or exact.copy_abs()))


def moment_in(text: str) -> datetime | None:
    """Read a text as a time with an offset, and return it in UTC; None if the text is no such time."""
    if not _MOMENT.match(text):
        return None
    try:
        moment = in_utc(_AWARE.validate_python(text))
    except (ValidationError, ValueError):
        return None
    return None if is_zero(moment) else moment.replace(tzinfo=UTC)
