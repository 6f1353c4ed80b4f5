"""Patterns of event types: `product.updated`, `product.*`, `*.deleted`, `*`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from receiver.errors import WiringError
from receiver.logs.safe_text import quoted

_SHAPE = re.compile(r"[^\s*]+|[^\s*]*\*[^\s*]*")


@dataclass(frozen=True, slots=True)
class Pattern:
    """Matches one event type, or several with one `*`, which matches one or more characters."""

    text: str

    def __post_init__(self) -> None:
        if not _SHAPE.fullmatch(self.text):
            raise WiringError(
                f"`{self.text}` is not an event type: write `product.updated`, `product.*` or `*.deleted`."
            )

    def matches(self, event_type: str) -> bool:
        before, star, behind = self.text.partition("*")
        if not star:
            return event_type == before
        long_enough = len(event_type) > len(before) + len(behind)
        return long_enough and event_type.startswith(before) and event_type.endswith(behind)

    @property
    def specificity(self) -> tuple[bool, int]:
        """The sort key by which the more specific of two matching patterns is the higher."""
        return "*" not in self.text, len(self.text)

    def is_ambiguous_with(self, other: Pattern) -> bool:
        """Whether some event type matches both patterns while neither is more specific."""
        if self.specificity != other.specificity:
            return False
        if "*" not in self.text:
            return self.text == other.text
        before, _, behind = self.text.partition("*")
        other_before, _, other_behind = other.text.partition("*")
        heads_fit = before.startswith(other_before) or other_before.startswith(before)
        tails_fit = behind.endswith(other_behind) or other_behind.endswith(behind)
        return heads_fit and tails_fit


def patterns_of(event_types: Sequence[Any], decorator: str) -> tuple[Pattern, ...]:
    """The patterns of these event types, the arguments of this decorator.

    Raises `WiringError` if there is none, and for a function, the argument of a decorator without brackets.
    """
    odd = [each for each in event_types if not isinstance(each, str)]
    if odd or not event_types:
        has = f"the argument {quoted(odd[0])}" if odd else "no event type"
        raise WiringError(f'{decorator} has {has}: write {decorator}("product.*").')
    return tuple(map(Pattern, event_types))
