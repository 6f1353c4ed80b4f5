"""Damage: stored values that this program did not write, because the database was edited by hand.

A damaged value is read as a value that describes the damage, and the rest of its row as usual. In JSON it is a sentence
about the damage. Writing it back stores the same text.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any, TypeVar, cast

import msgspec

from receiver import codec
from receiver.errors import Unreadable
from receiver.logs.safe_text import quoted

Choice = TypeVar("Choice", bound=StrEnum)

#: The member of a JSON object that stands for damaged text.
DAMAGED = "damaged"


class DamagedObject(dict[str, str]):
    """Damaged text in place of an object: an object whose only member says what is damaged."""

    def __init__(self, text: str, says: str) -> None:
        super().__init__({DAMAGED: says})
        self.text, self.says = text, says


class DamagedList(list[str]):
    """Damaged text in place of a list: a list whose only item says what is damaged."""

    def __init__(self, text: str, says: str) -> None:
        super().__init__([told_in_place(says)])
        self.text, self.says = text, says


class DamagedMoment(datetime):
    """A damaged value in place of a time, which counts as the beginning of 1970.

    So it is older than every other time, and calculations with it do not fail.
    """

    #: The value in the database, and the sentence about it; without one, the time was calculated from a damaged one.
    stored: Any = None
    says: str | None = None

    def __str__(self) -> str:
        return super().__str__() if self.says is None else told_in_place(self.says)

    def __format__(self, form: str) -> str:
        return super().__format__(form) if self.says is None else str(self)

    def strftime(self, form: str) -> str:
        return super().strftime(form) if self.says is None else str(self)


class DamagedNumber(int):
    """A damaged value in place of a number, which counts as 0."""

    stored: Any = None
    says: str = ""

    def __str__(self) -> str:
        return told_in_place(self.says)

    def __format__(self, form: str) -> str:
        return str(self)


def told_in_place(says: str) -> str:
    """The sentence as JSON has it in place of a time or a number."""
    return f"{DAMAGED}: {says}"


def _plain_time(moment: DamagedMoment) -> str | datetime:
    if moment.says is not None:
        return str(moment)
    return datetime.combine(date(moment.year, moment.month, moment.day), moment.timetz())


codec.write_as(DamagedMoment, _plain_time)
codec.write_as(DamagedNumber, str)

_CLASSES = (DamagedObject, DamagedList, DamagedMoment, DamagedNumber)

#: The classes of damaged values.
DAMAGES = frozenset(_CLASSES)

#: The advice about a time or a number.
CORRECT_IT = "Correct it in the database."


def damage_of(value: object) -> str | None:
    """The sentence about a damaged value; None for a sound value."""
    return value.says if isinstance(value, _CLASSES) else None


def damaged_moment(stored: object, says: str | None = None) -> DamagedMoment:
    """The time that stands for this stored value, with this sentence or a usual one."""
    moment = DamagedMoment(1970, 1, 1, tzinfo=UTC)
    moment.stored, moment.says = stored, says or _wrong(stored, "is not a time")
    return moment


def damaged_number(stored: object, says: str | None = None) -> DamagedNumber:
    """The number that stands for this stored value, with this sentence or a usual one."""
    number = DamagedNumber()
    number.stored, number.says = stored, says or _wrong(stored, "is not a whole number")
    return number


def read_choice(choices: type[Choice], stored: str) -> Choice:
    """The member with this name; the stored text itself, which equals none of them, if it was edited by hand."""
    return choices(stored) if stored in list(choices) else cast("Choice", stored)


def _wrong(stored: object, wrong: str) -> str:
    return f"The stored value {quoted(stored)} {wrong}. {CORRECT_IT}"


def damaged(text: str, wrong: str, *, is_list: bool = False, mend: str = "") -> DamagedObject | DamagedList:
    """The value that stands for damaged text; `wrong` describes the damage, and `mend` the repair."""
    says = f"The stored text {quoted(text)} {wrong}. {mend}".rstrip() if text else f"The text is empty. {mend}".rstrip()
    return DamagedList(text, says) if is_list else DamagedObject(text, says)


def read_document(text: str, shape: Any, mend: str) -> Any:
    """The JSON value of this shape, or the damaged value that stands for it."""
    try:
        value = codec.decode(text)
    except Unreadable:
        return damaged(text, "is not JSON", is_list=_is_list(shape), mend=mend)
    if shape is Any:
        return value
    try:
        msgspec.convert(value, shape)
    except msgspec.ValidationError:
        return damaged(text, "is JSON of another shape", is_list=_is_list(shape), mend=mend)
    return value


def _is_list(shape: Any) -> bool:
    return getattr(shape, "__origin__", shape) is list


def checked_json(text: str, shape: Any, mend: str) -> msgspec.Raw:
    """The JSON text as it is stored, or that of the damaged value that stands for it."""
    content = text.encode()
    try:
        # Checks the syntax without building the values.
        msgspec.json.decode(content, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return msgspec.Raw(codec.encode(damaged(text, "is not JSON", mend=mend)))
    if shape is not Any and not content.lstrip().startswith(b"{"):
        return msgspec.Raw(codec.encode(damaged(text, "is JSON of another shape", mend=mend)))
    return msgspec.Raw(content)
