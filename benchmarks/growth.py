"""How the cost of an ack grows with connections, body size and cores, and the prediction of a small model.

The model: all connections wait for one commit, then send their next webhooks. So a batch of n takes F + n × p: F for
the commit, and p for each webhook. p grows linearly with the size of the body. Two measurements give F and p, and a
third is predicted.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks import rounds, scale
from benchmarks.acks import DATABASES, SQLITE, Cell
from benchmarks.rounds import Figure, Report, Spread
from benchmarks.senders import SIZE

ROUNDS = scale.rounds(usual=3, quick=1)

#: Connections and sizes: the second of each three is predicted from the others.
CONNECTIONS, SIZES = (8, 64, 128), (SIZE, 4 * SIZE, 10 * SIZE)

ONE_CORE = "SQLite, iimmpact, 64 connections, 1 kB, server and load on one core"


def report() -> Report:
    by_connections = {server: [Cell(server, connections=number) for number in CONNECTIONS] for server in DATABASES}
    by_size = [Cell(SQLITE, size=size) for size in SIZES]
    cells = [*dict.fromkeys([*(cell for each in by_connections.values() for cell in each), *by_size])]
    with tempfile.TemporaryDirectory() as folder:
        runs = {str(cell): partial(cell.measure, Path(folder)) for cell in cells}
        runs[ONE_CORE] = partial(_on_one_core, Path(folder))
        figures = rounds.take_turns(runs, rounds=ROUNDS, unit="requests/s")
    lines, ratios = [], []
    for server, three in by_connections.items():
        less, middle, more = (figures[str(cell)] for cell in three)
        fits = [_fit(less, more, number) for number in range(ROUNDS)]
        fixed, each = (Spread.of(values) for values in zip(*fits, strict=True))
        lines.append(f"{server}: a batch takes {fixed.median:.0f} µs and {each.median:.1f} µs for each webhook")
        predicted = [1e6 * CONNECTIONS[1] / (fixed + CONNECTIONS[1] * each) for fixed, each in fits]
        ratios.append(_compared(f"{server}, {CONNECTIONS[1]} connections", predicted, middle))
    ratios.append(_compared_by_size([figures[str(cell)] for cell in by_size]))
    ratios.append((figures[ONE_CORE] / figures[str(Cell(SQLITE))])._replace(name="SQLite, one core / all cores"))
    found = rounds.report(list(figures.values()), ratios)
    return found._replace(lines=[*found.lines, *lines])


def _fit(less: Figure, more: Figure, number: int) -> tuple[float, float]:
    """Return the microseconds of a batch and of each webhook in it, from two rates of one round."""
    small, large = CONNECTIONS[0], CONNECTIONS[2]
    short, long = (1e6 * n / figure.values[number] for n, figure in ((small, less), (large, more)))
    each = (long - short) / (large - small)
    return short - small * each, each


def _compared_by_size(three: Sequence[Figure]) -> Figure:
    """The time of a webhook with a body of the middle size, interpolated."""
    predicted = []
    for small, _, large in zip(*(figure.values for figure in three), strict=True):
        share = (SIZES[1] - SIZES[0]) / (SIZES[2] - SIZES[0])
        predicted.append(1 / ((1 - share) / small + share / large))
    return _compared(f"SQLite, bodies of {SIZES[1] // 1_000} kB", predicted, three[1])


def _compared(what: str, predicted: Sequence[float], measured: Figure) -> Figure:
    ratio = Figure("predicted", "", predicted, measured.cores) / measured
    return ratio._replace(name=f"{what}: predicted / measured")


def _on_one_core(pools: Path) -> float:
    with _pinned():
        return Cell(SQLITE).measure(pools)


@contextmanager
def _pinned() -> Iterator[None]:
    """Keep this process, and those that it starts, on one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
