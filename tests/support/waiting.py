"""Waits for a condition, with a bound."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from longer_limits import TIMEOUT

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


def wait_for_a_later_date(api: str) -> None:
    """Wait until the API's Date header is later than now: a list or an answer of the same second overrules nothing."""
    now = datetime.now(UTC)
    wait_until(
        lambda: parsedate_to_datetime(httpx.get(api, timeout=TIMEOUT).headers["date"]) > now, "a later Date header"
    )
