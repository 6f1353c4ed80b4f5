"""Locked deliveries: the reason of one that waits for another session's lock, and what the reason says."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from receiver.moments import time_text

#: The shortest and the longest pause before another try.
SHORTEST_LOCKED_PAUSE, LONGEST_LOCKED_PAUSE = timedelta(seconds=5), timedelta(seconds=10)

_TIME = "%Y-%m-%d %H:%M:%SZ"


def locked_reason(lock: str, since: datetime) -> str:
    """The reason of a delivery that has waited since this time; `lock` says for what, and how to end it."""
    return (
        f"{lock} This delivery has waited for it since {time_text(since)}; it is tried again every few seconds, and no "
        "attempt is counted meanwhile."
    )


def read_locked_reason(reason: str) -> tuple[str, datetime] | None:
    """The lock that such a reason names, and the time since which its delivery waits; None for another reason."""
    found = _WAITING.fullmatch(reason)
    if found is None:
        return None
    try:
        return found[1], datetime.strptime(found[2], _TIME).replace(tzinfo=UTC)
    except ValueError:
        # A reason that was edited by hand may name a day that does not exist.
        return None


_WAITING = re.compile(r"(.+) This delivery has waited for it since (\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ);.*", re.DOTALL)
