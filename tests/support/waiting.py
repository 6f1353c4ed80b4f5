"""Waiting for a condition, with a bound."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

#: Seconds that anything may take that a test waits for.
TIMEOUT = 60.0

#: Seconds between two polls at least, how many times as long as a poll takes, and the part of the time that has passed:
#: what is waited for needs the cores.
POLL, POLL_SHARE, POLL_PART = 0.005, 3, 1 / 20


def wait_until(condition: Callable[[], Any], what: str = "the condition") -> Any:
    """What the condition says as soon as it is true. Fails after a while."""
    first = time.monotonic()
    while True:
        began = time.monotonic()
        found = condition()
        if found:
            return found
        now = time.monotonic()
        assert now < first + TIMEOUT, f"waited {TIMEOUT:.0f} s for {what}"
        time.sleep(max(POLL, POLL_SHARE * (now - began), POLL_PART * (now - first)))
