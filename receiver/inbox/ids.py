"""Ids of deliveries: numbers that grow with arrival, drawn without asking the database.

An id is the time of arrival in microseconds, multiplied by 1,024, plus a random number of the process, so that
processes do not collide. Ids therefore sort by arrival, form ranges of time (by which partitions and retention cut),
and can be assigned before the delivery reaches any store.
"""

from __future__ import annotations

import secrets
import threading
import time
from datetime import datetime

from receiver.moments import EPOCH, MICROSECOND

#: Ids per microsecond, one for each possible number of a process.
MOST_PROCESSES = 1_024


class DeliveryIds:
    """Draws ids that always grow, even if the clock steps back. Thread-safe."""

    def __init__(self) -> None:
        self._process = secrets.randbelow(MOST_PROCESSES)
        self._last = 0
        self._lock = threading.Lock()

    def draw(self) -> int:
        with self._lock:
            self._last = self._next()
            return self._last

    def draw_many(self, number: int) -> range:
        """Draw `number` consecutive ids, for the events of one body."""
        with self._lock:
            first = self._next()
            drawn = range(first, first + number * MOST_PROCESSES, MOST_PROCESSES)
            self._last = drawn[-1]
        return drawn

    def _next(self) -> int:
        return max(self._last + MOST_PROCESSES, time.time_ns() // 1_000 * MOST_PROCESSES + self._process)


def first_id_at(moment: datetime) -> int:
    """The smallest id that a delivery received at `moment` could have."""
    return (moment - EPOCH) // MICROSECOND * MOST_PROCESSES


def arrived(delivery_id: int) -> int:
    """The time at which a delivery was received, in microseconds since 1970."""
    return delivery_id // MOST_PROCESSES
