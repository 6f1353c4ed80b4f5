"""One worker compared with DBOS Transact on the same PostgreSQL, which does the same upserts as durable workflows.

DBOS is installed into a virtual environment of its own, beside the project's. Nothing here depends on it.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from statistics import median

from benchmarks import postgresql
from benchmarks.apply import row
from benchmarks.draining import drain
from benchmarks.environments import NotInstalled, python_with

#: The newest release of DBOS, and the release of the driver that Hookmirror uses.
RELEASES = ("dbos==3.4.0", "psycopg[binary]==3.3.9")

#: Events of the worker, and workflows of DBOS: fewer, because each takes longer.
EVENTS, WORKFLOWS = 10_000, 1_000
ROUNDS = 3

#: Workflows at the same time, and seconds between two polls of the queue. Several are tried, because the best depends
#: on the machine. The last is DBOS's default: all workflows at once, and one poll a second.
QUEUES = ((8, 0.02), (16, 0.02), (64, 0.02), (WORKFLOWS, 1.0))

WORKER = "worker"


def measure() -> dict[str, float]:
    """Return events per second: the median of the rounds, in each of which every side has a new database."""
    program = _installed()
    rates: dict[str, list[float]] = {WORKER: []} | {_name(*queue): [] for queue in QUEUES}
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        rows.write_text("".join(json.dumps(row(number)) + "\n" for number in range(WORKFLOWS)))
        for _ in range(ROUNDS):
            with postgresql.fresh_database() as url:
                rates[WORKER].append(drain(url, events=EVENTS).events_per_second)
            for queue in QUEUES:
                with postgresql.fresh_database() as url:
                    rates[_name(*queue)].append(_workflows(program, url, rows, *queue))
    return {name: median(each) for name, each in rates.items()}


def report() -> list[str]:
    try:
        rates = measure()
    except NotInstalled as missing:
        return [f"left out: {missing}"]
    best = max(rate for name, rate in rates.items() if name != WORKER)
    return [
        *(f"{name:<46}{rate:>7.0f} events/s" for name, rate in rates.items()),
        f"worker / the best of DBOS  {rates[WORKER] / best:.1f}",
    ]


def _name(concurrency: int, polling: float) -> str:
    return f"{RELEASES[0]}, {concurrency} at once, polled each {polling:g} s"


def _workflows(program: list[str], url: str, rows: Path, concurrency: int, polling: float) -> float:
    command = [*program, url, str(rows), str(concurrency), str(polling)]
    return WORKFLOWS / float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def _installed() -> list[str]:
    """Return the command that runs the program of DBOS; make its environment if it does not exist."""
    return [str(python_with(".venv-dbos", RELEASES)), str(Path(__file__).with_name("dbos_program.py"))]
