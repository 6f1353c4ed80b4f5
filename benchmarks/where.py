"""Where the time of an ack goes, by step, for each kind of system and each database.

Servers that answer after one of the steps take turns. The difference between two of them is the cost of a step.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks import acks, cores, load, postgresql, processor, scale, steps
from benchmarks.rounds import Figure, Report, Spread
from benchmarks.senders import SENDERS, SIZE, Sender
from benchmarks.servers import running

ROUNDS, SECONDS = scale.rounds(usual=3, quick=1), scale.seconds()


class Cost(NamedTuple):
    """Microseconds for each ack."""

    #: From one ack to the next.
    elapsed: float
    #: Of processor time: the server's, and that of all other processes but the load generator.
    server: float
    database: float


class Stop(NamedTuple):
    """A server that stops after a step."""

    step: str
    sender: Sender
    database: str = ""

    def __str__(self) -> str:
        where = f" on {self.database}" if self.database else ""
        return f"{self.sender.name}: {self.step}{where}"

    def measure(self, pools: Path) -> Cost:
        pool = pools / f"{self.sender.name}.txt"
        if not pool.exists():
            load.write_pool(pool, 0, acks.pool_of(SIZE), sender=self.sender)
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            url = stack.enter_context(postgresql.fresh_database()) if self.database == acks.POSTGRESQL else None
            server = running("hookmirror", folder, database_url=url, stop=self.step)
            address, process = stack.enter_context(server)
            ours, everyones = processor.seconds(process), processor.seconds()
            seen = load.send(address, pool, seconds=SECONDS, sender=self.sender)
            ours, everyones = processor.seconds(process) - ours, processor.seconds() - everyones
        assert seen.failed == 0, f"{self} refused {seen.failed} requests"
        acked = seen.requests_per_second * SECONDS
        return Cost(1e6 / seen.requests_per_second, 1e6 * ours / acked, 1e6 * (everyones - ours) / acked)


def report() -> Report:
    stops = list(_stops())
    seen: dict[str, list[Cost]] = {str(stop): [] for stop in stops}
    there: dict[str, list[float]] = {str(stop): [] for stop in stops}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(ROUNDS):
            for stop in stops:
                cost, found = cores.checked(partial(stop.measure, Path(folder)))
                seen[str(stop)].append(cost)
                there[str(stop)].append(found)
    figures = [
        Figure(f"{name}, {what}", "µs", [cost[place] for cost in costs], there[name])
        for name, costs in seen.items()
        for place, what in enumerate(("elapsed", "server", "database"))
    ]
    return Report([*_table(stops, seen), *_marks(there)], figures)


def _stops() -> Iterator[Stop]:
    for sender in SENDERS.values():
        for step in steps.STOPS:
            if step in (steps.UNSYNCED, steps.STORE):
                yield from (Stop(step, sender, database) for database in acks.DATABASES)
            else:
                yield Stop(step, sender)


def _table(stops: list[Stop], seen: dict[str, list[Cost]]) -> Iterator[str]:
    """A row for each stop: the median microseconds for an ack up to there."""
    yield "| stop after | elapsed µs (least to most) | processor µs of the server | of the database |"
    yield "|---|---|---|---|"
    for stop in stops:
        elapsed, server, database = (Spread.of(values) for values in zip(*seen[str(stop)], strict=True))
        spread = f"{elapsed.median:.0f} ({elapsed.least:.0f} to {elapsed.most:.0f})"
        yield f"| {stop} | {spread} | {round(server.median)} | {round(database.median)} |"


def _marks(there: dict[str, list[float]]) -> Iterator[str]:
    fewer = [each for found in there.values() for each in found if each < cores.ENOUGH]
    if fewer:
        yield f"NOT ALL CORES WERE AVAILABLE in {len(fewer)} cells, {min(fewer):.2f} in the worst"
