"""Events received and mirrored per second: a load for some seconds, and the time until the worker has drained it."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks import load, postgresql, rounds, scale
from benchmarks.acks import POSTGRESQL, SQLITE, SQLITE_PROCESS, Cell
from benchmarks.rounds import Report
from benchmarks.senders import IIMMPACT, SENDERS, SIGMA, Sender
from benchmarks.servers import running
from receiver.database.database import Database

ROUNDS, SECONDS = scale.rounds(), scale.seconds(usual=3)
POOL = 45_000 * SECONDS

#: Seconds for the worker to drain.
TIMEOUT = 120

WAITING = "SELECT count(*) FROM deliveries WHERE state IN ('pending', 'processing')"
ALL = "SELECT count(*) FROM deliveries"
PROCESSED = "SELECT count(*) FROM deliveries WHERE state = 'processed'"


class Setup(NamedTuple):
    """A server with its worker."""

    database: str
    sender: Sender
    #: Further options of `hookmirror serve`.
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"received and mirrored on {self.database}, {' '.join((self.sender.name, *self.options))}"


#: With the worker in a process of its own.
APART = ("--worker-process",)


def report() -> Report:
    setups = [
        *(Setup(SQLITE, IIMMPACT), Setup(SQLITE, IIMMPACT, APART), Setup(SQLITE_PROCESS, IIMMPACT, APART)),
        *(Setup(SQLITE, SIGMA, APART), Setup(POSTGRESQL, IIMMPACT, APART)),
    ]
    if scale.QUICK:
        del setups[2:]
    with tempfile.TemporaryDirectory() as folder:
        pools = {sender: Path(folder) / f"{sender.name}.txt" for sender in SENDERS.values()}
        for sender in {setup.sender for setup in setups}:
            load.write_pool(pools[sender], 0, POOL, sender=sender)
        bare = Cell("bare")
        cells = {str(bare): partial(bare.measure, Path(folder))}
        cells |= {str(setup): partial(_measure, setup, pools[setup.sender]) for setup in setups}
        figures = rounds.take_turns(cells, rounds=ROUNDS, unit="events/s")
    return rounds.report(list(figures.values()), [figures[str(setup)] / figures[str(bare)] for setup in setups])


def _measure(setup: Setup, pool: Path) -> float:
    """Return events per second from the first request until the last of them is mirrored."""
    database, sender, options = setup
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        given = stack.enter_context(postgresql.fresh_database()) if database == POSTGRESQL else None
        acceptor = database == SQLITE_PROCESS
        server = running("hookmirror", folder, *options, database_url=given, acceptor_process=acceptor)
        url, _ = stack.enter_context(server)
        beside = stack.enter_context(closing(Database(given or f"sqlite:///{folder / 'hookmirror.db'}")))
        seen = load.send(url, pool, seconds=SECONDS, sender=sender)
        assert seen.failed == 0, f"refused {seen.failed} requests"
        ended = time.perf_counter()
        while asked(beside, WAITING):
            assert time.perf_counter() - ended < TIMEOUT, f"the worker did not drain its backlog within {TIMEOUT} s"
            time.sleep(0.02)
        # The load generator needs a moment to read the bodies before its seconds begin.
        took = SECONDS + time.perf_counter() - ended
        return asked(beside, ALL) / took


def asked(database: Database, question: str) -> int:
    """Return the number that a statement counts."""
    with database.read() as connection:
        return int(connection.exec_driver_sql(question).scalar_one())
