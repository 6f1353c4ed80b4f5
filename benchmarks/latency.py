"""The p99 of acks while a worker in the same process drains a backlog, compared with the p99 without a worker."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

from benchmarks import load
from benchmarks.servers import running

ROUNDS = 3
SECONDS = 4
POOL = 100_000


def measure() -> dict[str, float]:
    """Return the p99 in milliseconds by set-up: the median of the rounds.

    The requests themselves make the worker's backlog; at this rate there always is one.
    """
    p99: dict[str, list[float]] = {"alone": [], "draining": []}
    with tempfile.TemporaryDirectory() as folder:
        pool = Path(folder) / "pool.txt"
        for number in range(ROUNDS):
            load.write_pool(pool, number * POOL, POOL)
            for name, arguments in (("alone", ("--no-worker",)), ("draining", ())):
                with tempfile.TemporaryDirectory() as own, running("hookmirror", Path(own), *arguments) as (url, _):
                    p99[name].append(load.send(url, pool, seconds=SECONDS).p99)
    return {name: median(each) for name, each in p99.items()}


def report() -> list[str]:
    p99 = measure()
    return [
        f"ack p99, no worker        {p99['alone']:>7.1f} ms",
        f"ack p99, worker draining  {p99['draining']:>7.1f} ms",
        f"draining / no worker      {p99['draining'] / p99['alone']:.2f}",
    ]
