"""The same load on this code and on another state of it, in turns, to show what a change costs or saves.

BENCHMARK_AGAINST names a folder with the other state, such as `git worktree add` makes.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from statistics import median

from benchmarks import load
from benchmarks.servers import running

#: The variable that names the folder of the other code.
AGAINST = "BENCHMARK_AGAINST"

OURS = Path(__file__).parents[1]

ROUNDS = int(os.environ.get("BENCHMARK_ROUNDS", "5"))
SECONDS = 4
POOL = 120_000

SETUPS = {"no worker": ("--no-worker",), "worker in the process": ()}

#: Acks a second, their p99 in milliseconds, and deliveries that ended during the load.
Figures = tuple[float, float, float]


def report() -> list[str]:
    other = os.environ.get(AGAINST)
    if other is None:
        return [f"left out: set {AGAINST} to a folder with the other code"]
    trees = {"this": OURS, "other": Path(other)}
    seen: dict[tuple[str, str], list[Figures]] = {(setup, tree): [] for setup in SETUPS for tree in trees}
    with tempfile.TemporaryDirectory() as folder:
        pool = Path(folder) / "pool.txt"
        for number in range(ROUNDS):
            load.write_pool(pool, number * POOL, POOL)
            # Alternate the order, because the machine may be slower for the second.
            turns = list(seen) if number % 2 else list(reversed(list(seen)))
            for setup, tree in turns:
                seen[setup, tree].append(_measure(SETUPS[setup], trees[tree], pool))
    return [line for setup in SETUPS for line in _lines(setup, seen[setup, "this"], seen[setup, "other"])]


def _measure(arguments: tuple[str, ...], tree: Path, pool: Path) -> Figures:
    with tempfile.TemporaryDirectory() as own:
        with running("hookmirror", Path(own), *arguments, tree=tree) as (url, _):
            seen = load.send(url, pool, seconds=SECONDS)
            assert seen.failed == 0, f"refused {seen.failed} requests"
        with closing(sqlite3.connect(Path(own) / "hookmirror.db")) as connection:
            ended = connection.execute("SELECT count(*) FROM deliveries WHERE ended_at IS NOT NULL").fetchone()[0]
    return seen.requests_per_second, seen.p99, float(ended)


def _lines(setup: str, this: list[Figures], other: list[Figures]) -> list[str]:
    lines = []
    for place, what in enumerate(("acks a second", "p99 of the acks, ms", "ended meanwhile")):
        pairs = [(ours[place], theirs[place]) for ours, theirs in zip(this, other, strict=True)]
        ours, theirs = (median(values) for values in zip(*pairs, strict=True))
        ratios = sorted(a / b for a, b in pairs if b)
        if ratios:
            lines.append(
                f"{setup:<22} {what:<20} {ours:>9.1f} against {theirs:>9.1f}; by rounds "
                f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            )
    return lines
