"""Durable acks per second where many deliveries are stored, compared with few, for senders with random keys.

The random ids of Sigma and sticky.io follow the time of the change in the index of keys, so that new ones lie together.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks import ended, load, rounds, scale
from benchmarks.history import LARGEST, SMALLEST
from benchmarks.lending import LENDERS
from benchmarks.rounds import Figure, Report
from benchmarks.senders import SIGMA, STICKY, Sender
from benchmarks.servers import running

ROUNDS, SECONDS = scale.rounds(), scale.seconds(usual=3)

#: Bodies of a cell, more than are taken in its time.
POOLS = {SIGMA.name: 30_000 * SECONDS, STICKY.name: 25_000 * SECONDS}


class Cell(NamedTuple):
    """One sender, and the number of stored deliveries."""

    database: str
    sender: Sender
    stored: int

    def __str__(self) -> str:
        return f"{self.database}, {self.sender.name}, {self.stored:,} stored"

    def measure(self, filled: str | None, numbers: itertools.count[int]) -> float:
        """Return acks a second, on the database at `filled` or on one that is filled now. All bodies are new to it."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            if filled is None:
                filled = stack.enter_context(LENDERS[self.database]())
                ended.fill(filled, self.stored, ended.random_keys)
            pool, bodies = folder / "pool.txt", POOLS[self.sender.name]
            load.write_pool(pool, next(numbers) * bodies, bodies, sender=self.sender)
            url, _ = stack.enter_context(running("hookmirror", folder, "--no-worker", database_url=filled))
            seen = load.send(url, pool, seconds=SECONDS, sender=self.sender)
        assert seen.failed == 0, f"{self} refused {seen.failed} requests"
        assert seen.answers < bodies, f"{self} took all bodies, and then duplicates: make the pool larger"
        return seen.requests_per_second


def report() -> Report:
    figures: dict[str, Figure] = {}
    ratios, lines = [], []
    for database, lend in LENDERS.items():
        with lend() as many:
            began = time.perf_counter()
            ended.fill(many, LARGEST, ended.random_keys)
            lines.append(f"{database}: {LARGEST:,} deliveries were written in {time.perf_counter() - began:.0f} s")
            pairs = [[Cell(database, sender, size) for size in (LARGEST, SMALLEST)] for sender in (SIGMA, STICKY)]
            numbers = itertools.count()
            runs = {
                str(cell): partial(cell.measure, many if cell.stored == LARGEST else None, numbers)
                for pair in pairs
                for cell in pair
            }
            figures |= rounds.take_turns(runs, rounds=ROUNDS, unit="requests/s")
        ratios += [figures[str(more)] / figures[str(less)] for more, less in pairs]
    told = rounds.report(list(figures.values()), ratios)
    return told._replace(lines=[*told.lines, *lines])
