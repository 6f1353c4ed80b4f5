"""Workers in processes of their own, tuned like `hookmirror worker`, that drain an inbox on a start signal.

Each process starts, connects, and waits, so that only the work is measured.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from sqlalchemy import text

from benchmarks import inboxes, processor
from receiver.database.database import Database
from receiver.inbox.inbox import Inbox
from receiver.server.interpreter import tune_interpreter
from receiver.worker.worker import Worker

#: Events that warm up a fresh process and its database: statements get prepared, pages get cached.
WARM = 1_000

#: Seconds for a process to end.
TIMEOUT = 30


@dataclass(frozen=True, slots=True)
class Drained:
    """The speed at which one inbox was drained."""

    events_per_second: float
    #: Cores that workers and database kept busy; 0 if the system does not count that.
    busy_cores: float


def drain(url: str, *, events: int, workers: int = 1) -> Drained:
    """Fill an empty inbox, and let this many workers drain it together from a start signal on."""
    with _workers(url, workers) as processes:
        inboxes.fill(url, 0, WARM)
        _drain(processes)
        inboxes.fill(url, WARM, events)
        busy, began = processor.seconds(), time.perf_counter()
        _drain(processes)
        took = time.perf_counter() - began
        return Drained(events / took, (processor.seconds() - busy) / took)


@contextmanager
def _workers(url: str, number: int) -> Iterator[Sequence[subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "benchmarks.draining", url]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(number)
    ]
    try:
        for process in processes:
            _hear(process)
        yield processes
    finally:
        for process in processes:
            process.communicate(timeout=TIMEOUT)


def _drain(processes: Sequence[subprocess.Popen[str]]) -> None:
    """Start all workers at the same time, and wait until each finds nothing left to do."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("drain\n")
        process.stdin.flush()
    for process in processes:
        _hear(process)


def _hear(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    told = process.stdout.readline()
    if told != "ready\n":
        raise RuntimeError(f"a worker of the benchmark is not ready: {told.strip() or 'it ended'}")


def main(url: str) -> None:
    """Drain the inbox once for each line on standard input."""
    with closing(Database(url)) as database:
        database.look_after()
        worker = Worker(Inbox(database), inboxes.sources())
        _is_anything_pending(database)  # opens the connection before the time runs
        tune_interpreter()
        print("ready", flush=True)
        for _ in sys.stdin:
            while worker.work() or _is_anything_pending(database):
                pass
            print("ready", flush=True)
        worker.close()


def _is_anything_pending(database: Database) -> bool:
    """Whether a delivery is pending: one that another worker's entities block is left for the next pass."""
    with database.read() as connection:
        return bool(connection.execute(_PENDING).scalar())


_PENDING = text("SELECT EXISTS (SELECT 1 FROM deliveries WHERE state = 'pending')")


if __name__ == "__main__":
    main(sys.argv[1])
