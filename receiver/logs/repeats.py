"""Log lines that a stranger can cause repeatedly: the first of a kind is written, and the others are summed up."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

from receiver.logs.rates import Rates
from receiver.logs.safe_text import traced


class Repeats:
    """A logger of such lines. Thread-safe. A line for which there is no memory is lost, and its writer goes on.

    Lines with equal fields `about` are of one kind, and the sum shows these fields, too. They may hold only names from
    the settings and the code, because a stranger could invent any number of names. Other fields are logged only with
    the first line.
    """

    def __init__(self, log: Any, *, clock: Callable[[], float] = monotonic) -> None:
        self._log = log
        self._clock = clock
        self._rates = Rates()
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def warning(self, event: str, *, about: dict[str, str], **told: Any) -> None:
        with suppress(MemoryError):
            if self.lets_through(event, about):
                self._log.warning(event, **about, **told)

    def info(self, event: str, *, about: dict[str, str], **told: Any) -> None:
        with suppress(MemoryError):
            if self.lets_through(event, about):
                self._log.info(event, **about, **told)

    def exception(self, event: str, *, about: dict[str, str], **told: Any) -> None:
        """Log as `warning` does, but at level error and with the traceback of the handled exception."""
        with suppress(MemoryError):
            if self.lets_through(event, about):
                error = sys.exc_info()[1]
                self._log.error(event, **about, **told, **({"exception": traced(error)} if error is not None else {}))

    def lets_through(self, event: str, about: dict[str, str]) -> bool:
        """Whether the caller may write such a line; otherwise the line is counted for a sum."""
        with self._lock:
            now = self._clock()
            if self._rates.lets_through((event, tuple(about.items())), now=now):
                return True
            if self._timer is None:
                self._poll_later(now)
            return False

    def sum_up(self) -> None:
        """Log the sums of all periods that have ended; called by a timer."""
        with self._lock:
            self._timer = None
            now = self._clock()
            told = self._rates.held_back(now=now)
            self._poll_later(now)
        for kind, lines, seconds in told:
            event, about = kind if isinstance(kind, tuple) else ("lines of other kinds", ())
            self._log.warning(f"{event}: more of the same", **dict(about), lines=lines, seconds=round(seconds, 1))

    def _poll_later(self, now: float) -> None:
        end = self._rates.next_end()
        if end is None:
            return
        timer = threading.Timer(max(end - now, 0.0), self.sum_up)
        timer.daemon = True
        # If no thread can be started, the next held-back line logs the sum.
        with suppress(RuntimeError):
            timer.start()
            self._timer = timer
