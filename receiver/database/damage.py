"""Damage: stored text that this program did not write, because somebody edited the database by hand.

A damaged value is read as a value that says so, and the rest of its row as ever. Written back, it is the same text.
"""

from __future__ import annotations

from typing import Any

import msgspec

from receiver import codec
from receiver.errors import Unreadable
from receiver.logs.safe_text import quoted

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
        super().__init__([f"{DAMAGED}: {says}"])
        self.text, self.says = text, says


#: The classes of damaged values.
DAMAGES = frozenset({DamagedObject, DamagedList})


def damage_of(value: object) -> str | None:
    """The sentence about a damaged value; None for a sound one."""
    return value.says if isinstance(value, (DamagedObject, DamagedList)) else None


def damaged(text: str, wrong: str, *, is_list: bool = False, mend: str = "") -> DamagedObject | DamagedList:
    """The value that stands for damaged text; `wrong` says what is wrong with it, and `mend` what repairs it."""
    says = f"The stored text {quoted(text)} {wrong}. {mend}".rstrip() if text else f"The text is empty. {mend}".rstrip()
    return DamagedList(text, says) if is_list else DamagedObject(text, says)


def read_document(text: str, shape: Any, mend: str) -> Any:
    """The JSON value of this shape, or the damaged value that stands for it."""
    is_list = getattr(shape, "__origin__", shape) is list
    try:
        value = codec.decode(text)
    except Unreadable:
        return damaged(text, "is not JSON", is_list=is_list, mend=mend)
    if shape is Any:
        return value
    try:
        msgspec.convert(value, shape)
    except msgspec.ValidationError:
        return damaged(text, "is JSON of another shape", is_list=is_list, mend=mend)
    return value


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
