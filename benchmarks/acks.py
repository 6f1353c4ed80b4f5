"""Durable acks per second, against a bare server, an in-memory one and one commit per request."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

from benchmarks import load
from benchmarks.servers import running

SERVERS = ("bare", "deferred", "orm", "hookmirror")
ROUNDS = 3
SECONDS = 4

#: Bodies of one round: more than the fastest server takes.
POOL = 120_000


def measure() -> dict[str, float]:
    """Requests per second by server, the median of the rounds; within a round the servers take turns."""
    rates: dict[str, list[float]] = {name: [] for name in SERVERS}
    with tempfile.TemporaryDirectory() as folder:
        pool = Path(folder) / "pool.txt"
        for number in range(ROUNDS):
            load.write_pool(pool, number * POOL, POOL)
            for name in SERVERS:
                with tempfile.TemporaryDirectory() as own:
                    arguments = ("--no-worker",) if name == "hookmirror" else ()
                    with running(name, Path(own), *arguments) as (url, _):
                        seen = load.send(url, pool, seconds=SECONDS)
                assert seen.failed == 0, f"{name} refused {seen.failed} requests"
                rates[name].append(seen.requests_per_second)
    return {name: median(each) for name, each in rates.items()}


def report() -> list[str]:
    rates = measure()
    ours = rates["hookmirror"]
    lines = [f"{name:<11}{rate:>9.0f} requests/s" for name, rate in rates.items()]
    lines += [f"hookmirror / {name:<9}{ours / rates[name]:.2f}" for name in SERVERS if name != "hookmirror"]
    return lines
