"""Rates: decides which of many lines of one kind to write, and counts the others. `now` is in seconds of any clock.

The first line of a kind is written. Lines in the period after it are counted and summed up; while more keep coming,
each period is twice as long as the one before, up to a bound. So a line that a stranger can cause with every request
is written once a minute in the end, and each kind takes constant memory.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

#: The first and the longest period of a kind, in seconds.
FIRST_WHILE, LONGEST_WHILE = 1.0, 60.0

#: The most kinds that are counted separately; lines of further kinds are counted together.
KINDS_AT_ONCE = 1_000


class HeldBack(NamedTuple):
    """The number of unwritten lines of a kind within a period; kind None stands for all kinds beyond the bound."""

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
    """Decides line by line. Not thread-safe."""

    def __init__(self, *, kinds_at_once: int = KINDS_AT_ONCE) -> None:
        self._kinds_at_once = kinds_at_once
        self._whiles: dict[Hashable, _While] = {}

    def lets_through(self, kind: Hashable, *, now: float) -> bool:
        """Whether to write a line of this kind; otherwise the line is counted for `held_back`."""
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
        """The counts of all periods that have ended; a period with unwritten lines is followed by the next one."""
        told = []
        for kind, current in list(self._whiles.items()):
            if current.lines and current.is_over(now):
                told.append(HeldBack(kind, current.lines, now - current.began))
                self._whiles[kind] = _While(now, min(current.seconds * 2, LONGEST_WHILE))
        return told

    def next_end(self) -> float | None:
        """The end of the first period with unwritten lines; None without any."""
        return min((each.began + each.seconds for each in self._whiles.values() if each.lines), default=None)

    def _forget_what_is_over(self, now: float) -> None:
        self._whiles = {kind: each for kind, each in self._whiles.items() if each.lines or not each.is_over(now)}
