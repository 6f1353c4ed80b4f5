"""Durable acks per second on both databases, compared with a bare server, an in-memory one and one commit a request."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks import load, postgresql, rounds, scale
from benchmarks.rounds import Figure, Report
from benchmarks.senders import IIMMPACT, SENDERS, SIZE, Sender
from benchmarks.servers import running

DATABASES = (SQLITE, POSTGRESQL) = ("SQLite", "PostgreSQL")
SQLITE_PROCESS = "SQLite and an acceptor process"

#: The servers of Hookmirror: by database, and one with an acceptor process.
OURS = (*DATABASES, SQLITE_PROCESS)

ROUNDS, SECONDS = scale.rounds(), scale.seconds()


def pool_of(size: int) -> int:
    """The number of bodies for a cell, more than Hookmirror takes in its time. Each cell has a new database."""
    return (45_000 if size < 5 * SIZE else 18_000) * SECONDS


class Cell(NamedTuple):
    """One server under one load."""

    server: str
    sender: Sender = IIMMPACT
    connections: int = load.CONNECTIONS
    size: int = SIZE

    def __str__(self) -> str:
        what = self.server if self.server == "bare" else f"{self.server}, {self.sender.name}"
        return f"{what}, {self.connections} connections, {self.size // 1_000} kB"

    def measure(self, pools: Path) -> float:
        """Load the server, which starts with an empty database, and return requests per second."""
        pool = pools / f"{self.sender.name}-{self.size}.txt"
        if not pool.exists():
            load.write_pool(pool, 0, pool_of(self.size), sender=self.sender, size=self.size)
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            on_postgresql = self.server == POSTGRESQL
            database_url = stack.enter_context(postgresql.fresh_database()) if on_postgresql else None
            server, arguments = ("hookmirror", ("--no-worker",)) if self.server in OURS else (self.server, ())
            acceptor = self.server == SQLITE_PROCESS
            url, _ = stack.enter_context(
                running(server, folder, *arguments, database_url=database_url, acceptor_process=acceptor)
            )
            seen = load.send(url, pool, seconds=SECONDS, sender=self.sender, connections=self.connections)
        assert seen.failed == 0, f"{self} refused {seen.failed} requests"
        if self.server in OURS:
            sent = seen.requests_per_second * SECONDS
            assert sent < pool_of(self.size), f"{self} took all bodies, and then duplicates: make the pool larger"
        return seen.requests_per_second


def _cells() -> list[Cell]:
    few = [
        *(Cell("bare"), Cell("deferred")),
        *(Cell(SQLITE, sender) for sender in SENDERS.values()),
        *(Cell(server) for server in (POSTGRESQL, SQLITE_PROCESS)),
        *(Cell("bare", connections=256), Cell(SQLITE, connections=256), Cell(SQLITE_PROCESS, connections=256)),
    ]
    further = [
        *(Cell("deferred", sender) for sender in SENDERS.values()),
        *(Cell(server, sender) for server in (POSTGRESQL, SQLITE_PROCESS) for sender in SENDERS.values()),
        Cell(POSTGRESQL, connections=256),
        *(Cell(SQLITE, sender, connections=256) for sender in SENDERS.values()),
        *(Cell(server, size=10 * SIZE) for server in ("bare", *OURS)),
        *(Cell(server, connections=256, size=10 * SIZE) for server in ("bare", SQLITE)),
        *(Cell("orm"), Cell("orm_in_threads")),
    ]
    # Each once.
    return few if scale.QUICK else list(dict.fromkeys([*few, *further]))


def report() -> Report:
    cells = _cells()
    with tempfile.TemporaryDirectory() as folder:
        runs = {str(cell): partial(cell.measure, Path(folder)) for cell in cells}
        figures = rounds.take_turns(runs, rounds=ROUNDS, unit="requests/s")
    return rounds.report(list(figures.values()), _ratios(cells, figures))


def _ratios(cells: list[Cell], figures: dict[str, Figure]) -> list[Figure]:
    """Compare each cell of ours with the others' under the same load. The bare server does not look at the body."""
    ratios = []
    for cell in cells:
        if cell.server in OURS:
            others = [cell._replace(server="bare", sender=IIMMPACT), cell._replace(server="deferred")]
            others += [cell._replace(server=name) for name in ("orm", "orm_in_threads")]
            for other in others:
                if str(other) in figures:
                    ratio = figures[str(cell)] / figures[str(other)]
                    ratios.append(ratio._replace(name=f"{cell} / {other.server}"))
    return ratios
