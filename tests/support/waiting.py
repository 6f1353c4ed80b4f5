"""Waits for a condition, with a bound."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

#: Most seconds that a test waits for anything.
TIMEOUT = 60.0

#: Seconds between two polls at least, and the least ratios of a pause to a poll and to the time already waited: the
#: processes waited for need the cores.
POLL, POLL_SHARE, POLL_PART = 0.005, 3, 1 / 20


def wait_until(condition: Callable[[], Any], what: str = "the condition") -> Any:
    """Wait until the condition returns a true value, and return it. Fails after `TIMEOUT` seconds."""
    first = time.monotonic()
    while True:
        began = time.monotonic()
        found = condition()
        if found:
            return found
        now = time.monotonic()
        assert now < first + TIMEOUT, f"waited {TIMEOUT:.0f} s for {what}"
        time.sleep(max(POLL, POLL_SHARE * (now - began), POLL_PART * (now - first)))
