"""The p99 of acks while a worker drains a backlog, compared with the p99 without a worker."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from benchmarks import load, rounds, scale
from benchmarks.rounds import Report
from benchmarks.servers import running

ROUNDS, SECONDS = scale.rounds(), scale.seconds(usual=4)
POOL = 45_000 * SECONDS

ALONE, DRAINING = "p99 of acks without a worker", "p99 of acks beside a worker"


def report() -> Report:
    """The requests themselves make the worker's backlog; at this rate there always is one."""
    with tempfile.TemporaryDirectory() as folder:
        pool = Path(folder) / "pool.txt"
        load.write_pool(pool, 0, POOL)
        cells = {ALONE: partial(_p99, pool, "--no-worker"), DRAINING: partial(_p99, pool)}
        figures = rounds.take_turns(cells, rounds=ROUNDS, unit="ms")
    return rounds.report(list(figures.values()), [figures[DRAINING] / figures[ALONE]])


def _p99(pool: Path, *arguments: str) -> float:
    with tempfile.TemporaryDirectory() as own, running("hookmirror", Path(own), *arguments) as (url, _):
        return load.send(url, pool, seconds=SECONDS).p99
