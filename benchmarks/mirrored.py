"""Events received and mirrored per second: a load for some seconds, and the time until the worker has drained it."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

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


def report() -> Report:
    setups = [(SQLITE, IIMMPACT), (SQLITE_PROCESS, IIMMPACT), (SQLITE, SIGMA), (POSTGRESQL, IIMMPACT)]
    if scale.QUICK:
        del setups[2:]
    names = {f"received and mirrored on {database}, {sender.name}": (database, sender) for database, sender in setups}
    with tempfile.TemporaryDirectory() as folder:
        pools = {sender: Path(folder) / f"{sender.name}.txt" for sender in SENDERS.values()}
        for _, sender in setups:
            load.write_pool(pools[sender], 0, POOL, sender=sender)
        bare = Cell("bare")
        cells = {str(bare): partial(bare.measure, Path(folder))}
        cells |= {name: partial(_measure, *setup, pools[setup[1]]) for name, setup in names.items()}
        figures = rounds.take_turns(cells, rounds=ROUNDS, unit="events/s")
    return rounds.report(list(figures.values()), [figures[name] / figures[str(bare)] for name in names])


def _measure(database: str, sender: Sender, pool: Path) -> float:
    """Return events per second from the first request until the last of them is mirrored."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        given = stack.enter_context(postgresql.fresh_database()) if database == POSTGRESQL else None
        server = running("hookmirror", folder, database_url=given, acceptor_process=database == SQLITE_PROCESS)
        url, _ = stack.enter_context(server)
        beside = stack.enter_context(closing(Database(given or f"sqlite:///{folder / 'hookmirror.db'}")))
        seen = load.send(url, pool, seconds=SECONDS, sender=sender)
        assert seen.failed == 0, f"refused {seen.failed} requests"
        ended = time.perf_counter()
        while _asked(beside, WAITING):
            assert time.perf_counter() - ended < TIMEOUT, f"the worker did not drain its backlog within {TIMEOUT} s"
            time.sleep(0.02)
        # The load generator needs a moment to read the bodies before its seconds begin.
        took = SECONDS + time.perf_counter() - ended
        return _asked(beside, ALL) / took


def _asked(database: Database, question: str) -> int:
    with database.read() as connection:
        return int(connection.exec_driver_sql(question).scalar_one())
