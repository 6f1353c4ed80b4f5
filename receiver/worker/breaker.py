"""Breaker: which sources' APIs are left alone for a while, because their calls fail one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

#: Calls that fail in a row before a source rests.
FAILURES_IN_A_ROW = 3

#: How long it rests at first; doubled each time that the next call fails too, up to the longest.
FIRST_REST, LONGEST_REST = timedelta(seconds=5), timedelta(minutes=1)


@dataclass(slots=True)
class _Standing:
    failures: int = 0
    rest: timedelta = FIRST_REST
    until: datetime | None = None


class Breaker:
    """Counts calls that fail. After a rest one call is made at a time, until one is answered."""

    def __init__(self) -> None:
        self._standing: dict[str, _Standing] = {}

    def answered(self, source: str) -> None:
        """Forget what failed before: its API answers."""
        self._standing.pop(source, None)

    def failed(self, source: str, *, now: datetime) -> timedelta | None:
        """Count a failed call; the length of the rest that begins with it, None if none does."""
        standing = self._standing.setdefault(source, _Standing())
        standing.failures += 1
        if standing.failures < FAILURES_IN_A_ROW or source in self.resting(now=now):
            return None
        rest, standing.rest = standing.rest, min(standing.rest * 2, LONGEST_REST)
        standing.until = now + rest
        return rest

    def is_doubtful(self, source: str) -> bool:
        """Whether it had to rest and has not answered since."""
        standing = self._standing.get(source)
        return standing is not None and standing.failures >= FAILURES_IN_A_ROW

    def resting(self, *, now: datetime) -> set[str]:
        """The sources that rest. A clock that was set back ends a rest instead of prolonging it."""
        return {
            source
            for source, standing in self._standing.items()
            if standing.until is not None and standing.until - LONGEST_REST <= now < standing.until
        }
