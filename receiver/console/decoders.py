"""Decoders: parse answers of the API into the structs that pages show.

An answer about a row that was edited by hand may have a sentence about the damage in place of a time, a number or a
state. Then the struct gets a value that shows this sentence.
"""

from __future__ import annotations

from collections.abc import Hashable
from datetime import datetime
from decimal import Decimal
from functools import cache
from threading import Lock
from typing import Any, TypeVar, cast

import msgspec
from msgspec import inspect

from receiver import codec
from receiver.database.damage import DAMAGED, damaged_moment, damaged_number, told_in_place

Shaped = TypeVar("Shaped")

#: The decoders made so far, by struct, and the lock for making one.
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}
_making = Lock()


def decoded(shape: type[Shaped], content: bytes | msgspec.Raw) -> Shaped:
    """The answer as a value of this struct, fractions as Decimal."""
    try:
        return _decoder_of(shape).decode(content)
    except msgspec.ValidationError:
        found: Shaped = _built(_described(cast("Hashable", shape)), codec.decode(bytes(content)))
        return found


def _decoder_of(shape: type[Shaped]) -> msgspec.json.Decoder[Shaped]:
    """Return the decoder of JSON into this struct, with fractions as Decimal. Every thread may use it."""
    found = _decoders.get(shape)
    if found is None:
        # msgspec collects its description of a struct step by step. A decoder that a second thread makes meanwhile uses
        # the incomplete description, and crashes the process.
        with _making:
            found = _decoders.setdefault(shape, msgspec.json.Decoder(shape, float_hook=Decimal))
    return found


@cache
def _described(shape: Hashable) -> inspect.Type:
    with _making:
        return inspect.type_info(shape)


def _built(kind: inspect.Type, value: Any) -> Any:
    """A value of this kind from parsed JSON, with damage wherever the JSON is of another kind."""
    match kind:
        case inspect.Metadata(type=described):
            return _built(described, value)
        case inspect.UnionType(types=kinds):
            return None if value is None else _built(_fitting(kinds, value), value)
        case inspect.StructType(cls=struct, fields=fields) if isinstance(value, dict):
            known = {each.name: (each.type, value[each.encode_name]) for each in fields if each.encode_name in value}
            return struct(**{name: _built(of, member) for name, (of, member) in known.items()})
        case inspect.ListType(item_type=of) if isinstance(value, list):
            return [_built(of, item) for item in value]
        case inspect.DictType(key_type=key, value_type=of) if isinstance(value, dict):
            return {_built(key, name): _built(of, member) for name, member in value.items()}
        case inspect.DateTimeType():
            return _moment(value)
        case inspect.IntType():
            return value if isinstance(value, int) else damaged_number(value, _says(value))
        case inspect.FloatType():
            return float(value) if isinstance(value, int | Decimal) else damaged_number(value, _says(value))
        case inspect.EnumType(cls=choices):
            return choices(value) if value in list(choices) else told_in_place(value)
    return value


def _fitting(kinds: tuple[inspect.Type, ...], value: Any) -> inspect.Type:
    """The kind among these that a value of this JSON type has; the first if none fits."""
    bare = [each.type if isinstance(each, inspect.Metadata) else each for each in kinds]
    some = [each for each in bare if not isinstance(each, inspect.NoneType)]
    wholes: tuple[Any, ...] = ()
    if isinstance(value, dict | list):
        wholes = (inspect.StructType, inspect.DictType) if isinstance(value, dict) else (inspect.ListType,)
    return next((each for each in some if isinstance(each, wholes)), some[0])


def _moment(value: Any) -> datetime:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return damaged_moment(value, _says(value))


def _says(value: Any) -> str | None:
    """The sentence about the damage, if the API has written one in place of a value."""
    return value.removeprefix(told_in_place("")) if isinstance(value, str) and value.startswith(DAMAGED) else None
