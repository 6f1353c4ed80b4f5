"""What a worker in the same process costs the acks: their p99 while it drains a backlog, against no worker at all."""

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
    """Milliseconds of p99 by set-up, the median of the rounds.

    The worker's backlog is what the same requests leave behind: at this rate there is always some.
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
