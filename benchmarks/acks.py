"""Durable acks per second on both databases, compared with a bare server, an in-memory one and one commit a request."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from benchmarks import load, postgresql
from benchmarks.servers import running

#: The servers that Hookmirror is compared with on both databases.
OTHERS = ("bare", "deferred", "orm", "orm_in_threads")
OURS = (ON_SQLITE, ON_POSTGRESQL) = ("hookmirror on SQLite", "hookmirror on PostgreSQL")

#: The same for webhooks with random ids.
WITH_RANDOM_IDS = {f"{name}, random ids": name for name in OURS}

ROUNDS = 3
SECONDS = 4

#: Bodies of one round, more than the fastest server takes.
POOL = 120_000


def measure() -> dict[str, float]:
    """Return requests per second by server: the median of the rounds, in each of which the servers take turns."""
    rates: dict[str, list[float]] = {name: [] for name in (*OTHERS, *OURS, *WITH_RANDOM_IDS)}
    with tempfile.TemporaryDirectory() as folder:
        pools = {sender: Path(folder) / f"{sender.source}.txt" for sender in (load.IIMMPACT, load.SIGMA)}
        for number in range(ROUNDS):
            for sender, pool in pools.items():
                load.write_pool(pool, number * POOL, POOL, sender=sender)
            for name, each in rates.items():
                sender = load.SIGMA if name in WITH_RANDOM_IDS else load.IIMMPACT
                seen = _load(WITH_RANDOM_IDS.get(name, name), pools[sender], sender)
                assert seen.failed == 0, f"{name} refused {seen.failed} requests"
                each.append(seen.requests_per_second)
    return {name: median(each) for name, each in rates.items()}


def report() -> list[str]:
    rates = measure()
    lines = [f"{name:<38}{rate:>9.0f} requests/s" for name, rate in rates.items()]
    for ours in (*OURS, *WITH_RANDOM_IDS):
        lines += [f"{ours:<36} / {other:<15}{rates[ours] / rates[other]:.2f}" for other in OTHERS]
    return lines


def _load(name: str, pool: Path, sender: load.Sender) -> load.Load:
    """Load one server that starts with an empty database, and return what wrk measured."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database_url = stack.enter_context(postgresql.fresh_database()) if name == ON_POSTGRESQL else None
        server, arguments = (name, ()) if name in OTHERS else ("hookmirror", ("--no-worker",))
        url, _ = stack.enter_context(running(server, folder, *arguments, database_url=database_url))
        return load.send(url, pool, seconds=SECONDS, sender=sender)
