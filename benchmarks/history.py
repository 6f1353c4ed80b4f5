"""The cost of the inbox's verbs with a growing number of ended deliveries, on both databases.

All inboxes are filled before anything is measured, and take turns within a round.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

from benchmarks import ended, inboxes
from benchmarks.inboxes import SOURCE
from benchmarks.lending import LENDERS, Lend
from benchmarks.rounds import Figure, Report
from benchmarks.senders import IIMMPACT, SIGMA, Sender
from receiver.api.delivery_shapes import show_delivery
from receiver.database.database import Database
from receiver.inbox.arrival import Arrival
from receiver.inbox.attempts import AttemptResult
from receiver.inbox.inbox import Inbox
from receiver.inbox.leases import Claimed
from receiver.inbox.tables import State
from receiver.search import deliveries
from receiver.search.filters import DeliveryFilter
from receiver.search.pages import PageBounds

#: Deliveries of the largest inbox; the others have a tenth, a hundredth … of it.
LARGEST = int(os.environ.get("BENCHMARK_HISTORY", "1000000"))
SMALLEST = 10_000

ROUNDS = 10

#: Batches of one turn. The first of them may find its pages no longer cached.
BATCHES = 8

#: Deliveries that the endpoint accepts in one statement, and that a worker claims at once, as in production.
ACCEPTED, CLAIMED = 64, 200

#: Duplicates in one accept, and the number of recent deliveries from which they are drawn.
REPEATED = 56
RECENT = SMALLEST

PAGE = 50

LEASE = timedelta(minutes=1)

FRESH, RANDOM, REPEATS, CLAIM, SETTLE, NEWEST = VERBS = (
    f"accept {ACCEPTED}",
    f"accept {ACCEPTED} with random ids",
    f"accept {ACCEPTED}, {REPEATED} of them again",
    f"claim {CLAIMED}",
    f"settle {CLAIMED}",
    f"newest page of {PAGE}",
)

WORKER = "benchmark"

Result = TypeVar("Result")


def report() -> Report:
    """Report milliseconds by database, verb and size: the medians of all batches."""
    lines, figures = [], []
    for name, lend in LENDERS.items():
        sizes = _measure(lend)
        lines += ["", f"| {name} | {' | '.join(f'{size:,}' for size in sizes)} | most / least |"]
        lines.append(f"|---|{'---|' * (len(sizes) + 1)}")
        for verb in VERBS:
            each = [Figure(f"{name}, {verb}, {size:,}", "ms", costs[verb]) for size, costs in sizes.items()]
            figures += each
            medians = [figure.spread.median for figure in each]
            shown = " | ".join(f"{cost:.2f} ms" for cost in medians)
            lines.append(f"| {verb} | {shown} | {medians[-1] / medians[0]:.2f} |")
    return Report(lines[1:], figures)


def _sizes() -> list[int]:
    sizes = [LARGEST]
    while sizes[-1] // 10 >= SMALLEST:
        sizes.append(sizes[-1] // 10)
    return sizes[::-1]


def _measure(lend: Lend) -> dict[int, dict[str, list[float]]]:
    with ExitStack() as stack:
        places = {size: stack.enter_context(_place(lend, size)) for size in _sizes()}
        for _ in range(ROUNDS):
            for place in places.values():
                for _ in range(BATCHES):
                    place.pass_a_batch()
        return {size: place.costs for size, place in places.items()}


@contextmanager
def _place(lend: Lend, size: int) -> Iterator[_Place]:
    with lend() as url:
        ended.fill(url, size)
        with closing(Database(url)) as database:
            yield _Place(database, size)


class _Place:
    """One inbox with many ended deliveries, and the measured costs of its verbs."""

    def __init__(self, database: Database, size: int) -> None:
        self.costs: dict[str, list[float]] = {verb: [] for verb in VERBS}
        self._database = database
        self._inbox = Inbox(database)
        self._size = size
        self._next = 0

    def pass_a_batch(self) -> None:
        """Take the deliveries of one claim from accept to settle, and time each verb."""
        repeated = [ended.again(number) for number in random.sample(range(self._size - RECENT, self._size), REPEATED)]
        for _ in range(CLAIMED // ACCEPTED):
            self._timed(FRESH, partial(self._inbox.accept, self._fresh(ACCEPTED)))
        random_ids = self._fresh(ACCEPTED, SIGMA)
        for arrival in random_ids:
            # So that none is in the way of the claim.
            arrival.ignore("Only its accept is measured.")
        self._timed(RANDOM, partial(self._inbox.accept, random_ids))
        self._timed(REPEATS, partial(self._inbox.accept, repeated + self._fresh(ACCEPTED - REPEATED)))
        claimed = self._timed(CLAIM, self._claim)
        assert len(claimed) == CLAIMED, f"{len(claimed)} deliveries were claimed"
        self._timed(SETTLE, partial(self._settle, claimed))
        self._timed(NEWEST, self._page)

    def _timed(self, verb: str, run: Callable[[], Result]) -> Result:
        began = time.perf_counter()
        result = run()
        self.costs[verb].append((time.perf_counter() - began) * 1_000)
        return result

    def _fresh(self, count: int, sender: Sender = IIMMPACT) -> list[Arrival]:
        first, self._next = self._next, self._next + count
        return [inboxes.arrival(number, sender) for number in range(first, first + count)]

    def _claim(self) -> list[Claimed]:
        now = datetime.now(UTC)
        self._inbox.due([SOURCE], now=now)
        return self._inbox.claim(WORKER, [SOURCE], limit=CLAIMED, now=now, lease=LEASE)

    def _settle(self, claimed: Sequence[Claimed]) -> None:
        with self._database.write() as connection:
            self._inbox.held(connection, WORKER, [delivery.id for delivery in claimed])
            endings = [AttemptResult(delivery.id, State.PROCESSED, outcome="applied") for delivery in claimed]
            self._inbox.settle(connection, WORKER, endings, now=datetime.now(UTC))

    def _page(self) -> None:
        deliveries.list_deliveries(self._database, DeliveryFilter(), show_delivery, PageBounds(limit=PAGE))
