"""The read budget: how much of the process's time reads may take while webhooks are being acked.

Reads run in threads of the process that acks, and a thread that computes holds up all others. So while webhooks come
in, reads pay for the CPU time that they use: the next one begins when the share of the time that passed covers it.
Without webhooks, reads cost nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

#: The share of one core that all reads together may use while webhooks are being acked.
SHARE = 0.05

#: Seconds of CPU time that reads may use at once after a pause: what a few people who open a page need.
BURST = 0.15

#: Seconds of CPU time of one read that all others wait for; those beyond are for reads of the same key to wait for.
MOST_SHARED = 0.05

#: Seconds that reads of one key wait at most after an expensive one: less than a read waits for its turn.
LONGEST_KEY_REST = 1.5

#: Seconds of CPU time that a request and its answer take in the event loop, beside the thread of the read.
REQUEST_COST = 0.001

#: What a read is taken to cost before any of its key has ended, and the weight of the newest in the mean of a key.
FIRST_ESTIMATE, NEWEST_WEIGHT = 0.005, 0.3

#: Keys whose costs are remembered.
MOST_KEYS = 1_000


class ReadBudget:
    """An account of CPU time, in seconds. For one event loop; a key stands for reads that resemble each other."""

    def __init__(self, *, is_busy: Callable[[], bool], clock: Callable[[], float] = time.monotonic) -> None:
        """`is_busy` says whether webhooks are being acked."""
        self._is_busy = is_busy
        self._clock = clock
        self._balance, self._counted_at = BURST, clock()
        #: By key: the mean cost of its reads, and until when its next read waits.
        self._costs: dict[Hashable, float] = {}
        self._rests: dict[Hashable, float] = {}

    def wait(self, key: Hashable) -> float:
        """Seconds until a read of this key may begin; less if the webhooks end before."""
        if not self._is_busy():
            self._balance, self._counted_at = BURST, self._clock()
            self._rests.clear()
            return 0.0
        now = self._count()
        owed = 0.0 if self._balance > 0 else -self._balance / SHARE
        return max(owed, self._rests.get(key, now) - now)

    def begin(self, key: Hashable) -> float:
        """Pay in advance what a read of this key costs on average, and return it."""
        self._count()
        advance = self._costs.get(key, FIRST_ESTIMATE)
        self._balance -= advance
        return advance

    def end(self, key: Hashable, *, advance: float, used: float) -> None:
        """Pay what the read really used, in seconds of CPU time."""
        now = self._count()
        cost = used + REQUEST_COST
        self._balance += advance - min(cost, MOST_SHARED)
        if len(self._costs) >= MOST_KEYS:
            self._costs.clear()
        estimate = min(cost, MOST_SHARED)
        self._costs[key] = self._costs.get(key, estimate) * (1 - NEWEST_WEIGHT) + estimate * NEWEST_WEIGHT
        if cost > MOST_SHARED and self._is_busy():
            self._rests[key] = now + min(cost / SHARE, LONGEST_KEY_REST)

    def _count(self) -> float:
        now = self._clock()
        self._balance = min(self._balance + (now - self._counted_at) * SHARE, BURST)
        self._counted_at = now
        return now
