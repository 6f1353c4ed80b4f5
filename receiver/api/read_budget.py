"""The read budget: the share of CPU time that reads may use while webhooks are being acked.

Reads run in threads of the process that acks, and a computing thread delays all others. So while webhooks arrive, reads
spend from a budget that grows with time, and the next read begins when the budget covers it. It grows the faster, the
less of the time the webhooks take. Without webhooks, reads are not limited.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from math import inf

#: The share of one core that all reads together may use while webhooks take much of the time. It is smaller on
#: PostgreSQL, whose processes compute for reads at the priority at which they compute for acks.
SHARE, SHARE_ON_POSTGRESQL = 0.05, 0.03

#: The share while webhooks take hardly any time, and the utilisation from which on reads get the smaller share.
LARGEST_SHARE, MUCH = 0.5, 0.8

#: The most seconds of CPU time that the budget saves: enough for a few people who open a page.
BURST = 0.15

#: Seconds of CPU time of one read that delay all others; the time beyond delays only reads of the same key.
MOST_SHARED = 0.05

#: The longest wait of a key's reads after an expensive one, in seconds: less than a read waits for its turn.
LONGEST_KEY_REST = 1.9

#: Seconds of CPU time that a request and its answer take in the event loop, beside the thread of the read.
REQUEST_COST = 0.001

#: Seconds of CPU time that PostgreSQL uses for each second that a read waits for it. It computes during most of a long
#: wait, and competes for the cores with the acks meanwhile.
COST_OF_POSTGRESQL = 0.75

#: Seconds for which no webhook may come before reads are unlimited. On an overloaded machine the event loop itself
#: stands still for a moment, in which no webhook can come, and reads would get most when there is least for them.
NO_WEBHOOK_FOR = 0.05

#: The assumed cost of a key's first read in seconds, and the weight of the newest read in a key's mean.
FIRST_ESTIMATE, NEWEST_WEIGHT = 0.005, 0.3

#: The most keys whose costs are remembered.
MOST_KEYS = 1_000


class ReadBudget:
    """An account of CPU time in seconds, for one event loop. A key stands for similar reads."""

    def __init__(
        self,
        *,
        is_busy: Callable[[], bool],
        utilisation: Callable[[], float] = lambda: 1.0,
        share: float = SHARE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`is_busy` returns whether webhooks are being acked right now, and `utilisation` the share of time they take.

        `share` is that of one core which reads get while webhooks take much of the time.
        """
        self._is_busy, self._utilisation = is_busy, utilisation
        self._least_share = share
        self._clock = clock
        self._balance, self._counted_at = BURST, clock()
        #: The time of the first question since which no webhook was being acked; infinite while one is.
        self._quiet_since = inf
        #: By key, the mean cost of its reads, and the time until which its next read waits.
        self._costs: dict[Hashable, float] = {}
        self._rests: dict[Hashable, float] = {}

    def is_tight(self) -> bool:
        """Whether webhooks take so much of the time that reads get the smaller share."""
        return self._is_busy() and self._utilisation() >= MUCH

    def wait(self, key: Hashable) -> float:
        """The seconds until a read of this key may begin while webhooks keep arriving."""
        if self._is_quiet():
            self._balance, self._counted_at = BURST, self._clock()
            self._rests.clear()
            return 0.0
        now = self._count()
        owed = 0.0 if self._balance > 0 else -self._balance / self._share()
        return max(owed, self._rests.get(key, now) - now)

    def begin(self, key: Hashable) -> float:
        """Charge the mean cost of this key's reads in advance, and return it."""
        self._count()
        advance = self._costs.get(key, FIRST_ESTIMATE)
        self._balance -= advance
        return advance

    def end(self, key: Hashable, *, advance: float, used: float) -> None:
        """Correct the charge to the CPU time that the read used, in seconds."""
        now = self._count()
        cost = used + REQUEST_COST
        self._balance += advance - min(cost, MOST_SHARED)
        if len(self._costs) >= MOST_KEYS:
            self._costs.clear()
        estimate = min(cost, MOST_SHARED)
        self._costs[key] = self._costs.get(key, estimate) * (1 - NEWEST_WEIGHT) + estimate * NEWEST_WEIGHT
        if cost > MOST_SHARED and self._is_busy():
            self._rests[key] = now + min(cost / self._share(), LONGEST_KEY_REST)

    def _is_quiet(self) -> bool:
        """Whether no webhook is being acked, at this question and at an earlier one."""
        now = self._clock()
        if self._is_busy():
            self._quiet_since = inf
        elif self._quiet_since == inf:
            self._quiet_since = now
        return now - self._quiet_since >= NO_WEBHOOK_FOR

    def _share(self) -> float:
        """The share of one core that reads may use now."""
        free = max(1 - self._utilisation() / MUCH, 0.0)
        return self._least_share + (LARGEST_SHARE - self._least_share) * free

    def _count(self) -> float:
        now = self._clock()
        self._balance = min(self._balance + (now - self._counted_at) * self._share(), BURST)
        self._counted_at = now
        return now
