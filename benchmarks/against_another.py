"""The same load on this code and on another state of it, in turns, to show the cost or the gain of a change.

BENCHMARK_AGAINST names a folder with the other state, such as `git worktree add` makes.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks import load, postgresql, processor
from benchmarks.senders import IIMMPACT, SIGMA, STICKY
from benchmarks.servers import running
from receiver.database.database import Database

#: The variable that names the folder of the other code.
AGAINST = "BENCHMARK_AGAINST"

OURS = Path(__file__).parents[1]

ROUNDS = int(os.environ.get("BENCHMARK_ROUNDS", "5"))
SECONDS = int(os.environ.get("BENCHMARK_SECONDS", "4"))
CONNECTIONS = [int(each) for each in os.environ.get("BENCHMARK_CONNECTIONS", "64").split(",")]
ON_POSTGRESQL = os.environ.get("BENCHMARK_DATABASE", "SQLite") == "PostgreSQL"
POOL = 30_000 * SECONDS

SENDERS = {"iimmpact": IIMMPACT, "sigma, random ids": SIGMA, "sticky, encrypted": STICKY}
WORKERS = {"no worker": ("--no-worker",), "worker in the process": ()}


class Setup(NamedTuple):
    """One load."""

    sender: str
    connections: int
    worker: str

    def __str__(self) -> str:
        return f"{self.sender}, {self.connections} connections, {self.worker}"


class Figures(NamedTuple):
    """The measured values of one turn."""

    rate: float
    #: Milliseconds.
    p99: float
    #: Of the server's processor time, by request.
    microseconds: float
    ended: float


SHOWN = {
    "rate": "acks a second",
    "p99": "p99 of the acks, ms",
    "microseconds": "processor time of the server for an ack, µs",
    "ended": "ended meanwhile",
}


def report() -> list[str]:
    other = os.environ.get(AGAINST)
    if other is None:
        return [f"left out: set {AGAINST} to a folder with the other code"]
    trees = {"this": OURS, "other": Path(other)}
    setups = [Setup(*each) for each in _chosen()]
    seen: dict[tuple[Setup, str], list[Figures]] = {(setup, tree): [] for setup in setups for tree in trees}
    with tempfile.TemporaryDirectory() as folder:
        pools = {name: Path(folder) / f"{name}.txt" for name in {setup.sender for setup in setups}}
        for number in range(ROUNDS):
            for name, pool in pools.items():
                load.write_pool(pool, number * POOL, POOL, sender=SENDERS[name])
            # The order alternates, because the machine may be slower for the second.
            turns = list(seen) if number % 2 else list(reversed(list(seen)))
            for setup, tree in turns:
                seen[setup, tree].append(_measure(setup, trees[tree], pools[setup.sender]))
    return [line for setup in setups for line in _lines(setup, seen[setup, "this"], seen[setup, "other"])]


def _chosen() -> list[tuple[str, int, str]]:
    """All loads without a worker, and the usual one with a worker."""
    without = [(sender, connections, "no worker") for sender in SENDERS for connections in CONNECTIONS]
    return [*without, ("iimmpact", CONNECTIONS[0], "worker in the process")]


def _measure(setup: Setup, tree: Path, pool: Path) -> Figures:
    sender = SENDERS[setup.sender]
    with ExitStack() as stack:
        own = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database_url = stack.enter_context(postgresql.fresh_database(tree=tree)) if ON_POSTGRESQL else None
        server = running("hookmirror", own, *WORKERS[setup.worker], tree=tree, database_url=database_url)
        with server as (url, process):
            began = processor.seconds(process)
            seen = load.send(url, pool, seconds=SECONDS, sender=sender, connections=setup.connections)
            assert seen.failed == 0, f"refused {seen.failed} requests"
            used = processor.seconds(process) - began
        database = stack.enter_context(closing(Database(database_url or f"sqlite:///{own / 'hookmirror.db'}")))
        with database.read() as connection:
            counted = "SELECT count(*) FROM deliveries WHERE ended_at IS NOT NULL"
            ended = connection.exec_driver_sql(counted).scalar_one()
    per_request = 1e6 * used / (seen.requests_per_second * SECONDS)
    return Figures(seen.requests_per_second, seen.p99, per_request, float(ended))


def _lines(setup: Setup, this: list[Figures], other: list[Figures]) -> list[str]:
    lines = []
    for place, what in enumerate(SHOWN.values()):
        pairs = [(ours[place], theirs[place]) for ours, theirs in zip(this, other, strict=True)]
        ours, theirs = (median(values) for values in zip(*pairs, strict=True))
        ratios = sorted(a / b for a, b in pairs if b)
        if ratios:
            lines.append(
                f"{setup!s:<55} {what:<44} {ours:>9.1f} against {theirs:>9.1f}; by rounds "
                f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            )
    return lines
