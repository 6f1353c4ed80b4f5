"""The search for the members of a captured body, by the words of their names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from receiver.drafting.naming import snake_case

#: The levels of a body that are searched for the parts of its envelope.
DEEPEST_MEMBER = 2

#: The beginnings of the verbs of event types. Some nouns contain one: address, addon, credit, edition, editor.
_VERBS = (
    *("creat", "updat", "delet", "remov", "add(?!ress|on)", "chang", "modif", "insert", "archiv", "publish", "upsert"),
    *("destroy", "restor", "(?<!cr)edit(?!ion|or)"),
)

#: Verbs of event types, with any ending.
VERB = re.compile(rf"(?:{'|'.join(_VERBS)})\w*", re.I)

_NAME = re.compile(r"[A-Za-z][\w./:-]{1,80}")


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a body: its path, and its value in the example."""

    path: tuple[str, ...]
    value: Any

    @property
    def shown(self) -> str:
        """The path as messages show it."""
        return ".".join(self.path)

    def below(self, path: tuple[str, ...]) -> Member:
        """This member of an object, as a member of the body in which the object has this path."""
        return Member((*path, *self.path), self.value)

    def of(self, document: Any) -> Any:
        """The value at this path of another body; None if that body has none."""
        for name in self.path:
            document = document.get(name) if isinstance(document, dict) else None
        return document


def first_member(
    document: Any, names: Sequence[str], *, depth: int = DEEPEST_MEMBER, fits: Any = None
) -> Member | None:
    """Find the first member with one of these names, in the order of the names, and the outermost first."""
    fits = fits or is_id
    for level in range(1, depth + 1):
        for name in names:
            for member in named_members(document, name, level):
                if len(member.path) == level and fits(member.value):
                    return member
    return None


def named_members(document: Any, name: str, depth: int) -> Iterator[Member]:
    """Yield the members with this name in any spelling, down to `depth` levels."""
    if not isinstance(document, dict):
        return
    for key, value in document.items():
        if snake_case(key) == name or key == name:
            yield Member((key,), value)
    if depth > 1:
        for key, value in document.items():
            yield from (Member((key, *each.path), each.value) for each in named_members(value, name, depth - 1))


def is_name(value: Any) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def is_id(value: Any) -> bool:
    if isinstance(value, str):
        return 0 < len(value) <= 200
    return isinstance(value, int) and not isinstance(value, bool)
