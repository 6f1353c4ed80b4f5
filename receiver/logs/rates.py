"""Rates: of many lines of one kind, which to write, and how many were held back. `now` is in seconds, of any clock.

The first line of a kind is written. What follows within a while is counted and summed up; as long as more keeps
coming, each while is twice as long as the one before, up to a bound. So a line that a stranger can cause with every
request costs one line a minute in the end, and no kind remembers more than a number.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

#: Seconds that the first while of a kind lasts, and the longest.
FIRST_WHILE, LONGEST_WHILE = 1.0, 60.0

#: Kinds that are told apart at once; what comes beyond them is counted together.
KINDS_AT_ONCE = 1_000


class HeldBack(NamedTuple):
    """How many lines of a kind were not written, within how many seconds; kind None stands for all beyond the bound."""

    kind: Hashable
    lines: int
    seconds: float


@dataclass(slots=True)
class _While:
    began: float
    seconds: float
    lines: int = 0

    def is_over(self, now: float) -> bool:
        return now - self.began >= self.seconds


class Rates:
    """Decides line by line. Not safe to use from several threads."""

    def __init__(self, *, kinds_at_once: int = KINDS_AT_ONCE) -> None:
        self._kinds_at_once = kinds_at_once
        self._whiles: dict[Hashable, _While] = {}

    def lets_through(self, kind: Hashable, *, now: float) -> bool:
        """Whether to write a line of this kind; otherwise it is counted, and `held_back` will tell."""
        current = self._whiles.get(kind)
        if current is None and len(self._whiles) >= self._kinds_at_once:
            self._forget_what_is_over(now)
            if len(self._whiles) >= self._kinds_at_once:
                kind = None
                current = self._whiles.get(kind)
        if current is None or (current.lines == 0 and current.is_over(now)):
            self._whiles[kind] = _While(now, FIRST_WHILE)
            return True
        current.lines += 1
        return False

    def held_back(self, *, now: float) -> list[HeldBack]:
        """What was held back in each while that is over now; where that was anything, the next while begins."""
        told = []
        for kind, current in list(self._whiles.items()):
            if current.lines and current.is_over(now):
                told.append(HeldBack(kind, current.lines, now - current.began))
                self._whiles[kind] = _While(now, min(current.seconds * 2, LONGEST_WHILE))
        return told

    def next_end(self) -> float | None:
        """When the first while ends that has something to tell; None if there is none."""
        return min((each.began + each.seconds for each in self._whiles.values() if each.lines), default=None)

    def _forget_what_is_over(self, now: float) -> None:
        self._whiles = {kind: each for kind, each in self._whiles.items() if each.lines or not each.is_over(now)}
