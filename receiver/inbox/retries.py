"""Retries: the times of further attempts, by exponential backoff with full jitter. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """Waits that grow by `factor` from `first`, each drawn evenly between nothing and its cap ("full jitter").

    With the defaults the nine caps add up to 38 hours, of which jitter draws half on average: ten attempts over
    about a day, the first few within minutes.
    """

    #: How often a handler is run before the delivery is dead.
    attempts: int = 10
    first: timedelta = timedelta(seconds=15)
    factor: int = 3
    longest: timedelta = timedelta(days=1)

    def exhausted(self, attempt: int) -> bool:
        """Whether `attempt`, counted from 1, was the last."""
        return attempt >= self.attempts

    def delay(self, attempt: int, jitter: float) -> timedelta:
        """The wait after the failed `attempt`, counted from 1; `jitter` is drawn evenly from 0 to 1."""
        cap = self.first
        for _ in range(attempt - 1):
            cap = min(cap * self.factor, self.longest)
        return cap * jitter
