"""Log lines about something that fails for a while: its first error, its last one once a minute, and its end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

#: Seconds between two lines about one outage.
BETWEEN_ERRORS = 60.0

#: The fewest seconds between two lines about an end, for what fails and works in turns.
BETWEEN_ENDS = 10.0


class Outage:
    """A logger of one kind of outage. Thread-safe. A line for which there is no memory is lost."""

    def __init__(self, log: Any, fails: str, works: str, *, clock: Callable[[], float] = monotonic) -> None:
        """`fails` is the line about an error, and `works` the one about the end."""
        self._log, self._fails, self._works = log, fails, works
        self._clock = clock
        self._lock = threading.Lock()
        self._began: float | None = None
        self._errors = 0
        #: By the kind of an error, the time from which it is logged again.
        self._next_error: dict[str, float] = {}
        self._next_end = float("-inf")

    def failed(self, kind: str = "", *, says: str = "", **told: Any) -> None:
        """Count an error, and log it if it is the first of its kind, or a minute after the last line about it.

        `says` replaces the line about an error.
        """
        with self._lock:
            now = self._clock()
            self._errors += 1
            if self._began is None:
                self._began = now
            elif now < self._next_error.get(kind, now):
                return
            else:
                told |= {"errors": self._errors, "seconds": round(now - self._began)}
            self._next_error[kind] = now + BETWEEN_ERRORS
        with suppress(MemoryError):
            self._log.error(says or self._fails, **told)

    def worked(self) -> None:
        """Log the end of an outage, with its length and the number of errors. Costs nothing outside an outage."""
        if self._began is None:
            return
        with self._lock:
            now = self._clock()
            if self._began is None or now < self._next_end:
                return
            errors, seconds = self._errors, now - self._began
            self._began, self._errors, self._next_end = None, 0, now + BETWEEN_ENDS
            self._next_error.clear()
        with suppress(MemoryError):
            self._log.info(self._works, errors=errors, seconds=round(seconds))
