"""Retries: computes the times of further attempts by exponential backoff with full jitter."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """The waits between attempts. Each is drawn evenly between zero and a cap, which grows from `first` by `factor`.

    With the defaults, the nine caps add up to 38 hours, and the drawn waits to half of that on average: ten attempts in
    about a day, the first few within minutes.
    """

    #: The number of attempts after which the delivery is dead.
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
