"""Breaker: pauses calls to the API of a source after consecutive failures."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

#: Calls that fail in a row before a source rests.
FAILURES_IN_A_ROW = 3

#: The first and the longest rest; it doubles each time that the next call fails, too.
FIRST_REST, LONGEST_REST = timedelta(seconds=5), timedelta(minutes=1)


@dataclass(slots=True)
class _Standing:
    failures: int = 0
    rest: timedelta = FIRST_REST
    until: datetime | None = None


class Breaker:
    """Counts failed calls. After a rest, one call is made at a time until one succeeds."""

    def __init__(self) -> None:
        self._standing: dict[str, _Standing] = {}

    def answered(self, source: str) -> bool:
        """Reset the count of failures, because the API has answered; return whether its source had rested."""
        had_rested = self.is_doubtful(source)
        self._standing.pop(source, None)
        return had_rested

    def failed(self, source: str, *, now: datetime) -> timedelta | None:
        """Count a failed call; return the length of the rest that begins, or None."""
        standing = self._standing.setdefault(source, _Standing())
        standing.failures += 1
        if standing.failures < FAILURES_IN_A_ROW or source in self.resting(now=now):
            return None
        rest, standing.rest = standing.rest, min(standing.rest * 2, LONGEST_REST)
        standing.until = now + rest
        return rest

    def is_doubtful(self, source: str) -> bool:
        """Whether the source has rested and has not answered since."""
        standing = self._standing.get(source)
        return standing is not None and standing.failures >= FAILURES_IN_A_ROW

    def resting(self, *, now: datetime) -> set[str]:
        """The sources that rest. A clock that was set back ends a rest instead of prolonging it."""
        return {
            source
            for source, standing in self._standing.items()
            if standing.until is not None and standing.until - LONGEST_REST <= now < standing.until
        }
