"""Waits for a condition, with a bound."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

#: Most seconds that a test waits for anything.
TIMEOUT = 60.0

#: Seconds between two polls at least, and the least ratio of a pause to a poll: the processes waited for need the
#: cores.
POLL, POLL_SHARE = 0.005, 3


def wait_until(condition: Callable[[], Any], what: str = "the condition") -> Any:
    """Wait until the condition returns a true value, and return it. Fails after `TIMEOUT` seconds."""
    end = time.monotonic() + TIMEOUT
    while True:
        began = time.monotonic()
        found = condition()
        if found:
            return found
        now = time.monotonic()
        assert now < end, f"waited {TIMEOUT:.0f} s for {what}"
        time.sleep(max(POLL, POLL_SHARE * (now - began)))
