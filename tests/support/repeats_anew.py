"""Makes the lines that the log sums up begin anew with each test, although many loggers belong to a module.

Otherwise a test's first line of a kind could count as a repetition of an earlier test's, and the sum of an earlier
test's lines could come in the middle of a later one.
"""

from __future__ import annotations

from typing import Any

from receiver.logs.rates import Rates
from receiver.logs.repeats import Repeats

#: The loggers that were used since the last beginning.
_used: set[Repeats] = set()


def note_repeats() -> None:
    """Note from now on which loggers are used."""
    lets_through = Repeats.lets_through

    def noted(self: Repeats, *arguments: Any) -> bool:
        _used.add(self)
        return lets_through(self, *arguments)

    Repeats.lets_through = noted  # type: ignore[method-assign]


def begin_anew() -> None:
    """Forget the lines of the loggers that were used."""
    while _used:
        logger = _used.pop()
        with logger._lock:
            if logger._timer is not None:
                logger._timer.cancel()
            logger._timer, logger._rates = None, Rates()
