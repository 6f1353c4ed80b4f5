"""`make bench`: runs the usual measurements, or those named; `all` names every one.

The usual ones take less than twenty minutes on a machine that does nothing else, and with `BENCHMARK_QUICK=1` three.
"""

from __future__ import annotations

import platform
import sqlite3
import sys
import time
from collections.abc import Callable
from os import cpu_count

from benchmarks import (
    acks,
    against_another,
    against_dbos,
    apply,
    browsing,
    bundles,
    copying,
    cores,
    following,
    growth,
    history,
    latency,
    memory,
    mirrored,
    overload,
    parts,
    postgresql,
    scale,
    searching,
    sending,
    stored,
    strangers,
    where,
    workers,
)
from benchmarks.peers import comparison as peers
from benchmarks.record import FOLDER, Record
from benchmarks.rounds import Report

MEASUREMENTS: dict[str, tuple[str, Callable[[], list[str] | Report]]] = {
    "acks": ("Durable acks of one server process", acks.report),
    "mirrored": ("Events received and mirrored by one server process", mirrored.report),
    "apply": ("Events applied by one worker", apply.report),
    "latency": ("Ack latency beside a worker", latency.report),
    "overload": ("Acks of one server process when 1.5 times as much arrives as it can take", overload.report),
    "memory": ("Memory", memory.report),
    "workers": ("Events applied by two workers, on PostgreSQL", workers.report),
    "history": ("Cost of a batch with a growing number of ended deliveries", history.report),
    "stored": ("Durable acks where many deliveries are stored, and where few are", stored.report),
    "where": ("Where the time of an ack goes", where.report),
    "parts": ("Where the time of an applied event goes", parts.report),
    "growth": ("How the cost of an ack grows, and the prediction of a model", growth.report),
    "bundles": ("Events in a body of a hundred, compared with events in bodies of their own", bundles.report),
    "dbos": ("Events applied by one worker, and by DBOS Transact on the same PostgreSQL", against_dbos.report),
    "peers": ("Stripe's events mirrored on PostgreSQL, by other mirrors of Stripe, too", peers.report),
    "strangers": ("Durable acks beside strangers that hold connections", strangers.report),
    "sending": ("The simulator as a load generator", sending.report),
    "copying": ("A database copied into another, and compared", copying.report),
    "following": ("The change feed posted to a target by a follower", following.report),
    "searching": ("Lists and searches over a million deliveries and 200,000 rows", searching.report),
    "browsing": ("Pages of the console over a million deliveries and 200,000 rows", browsing.report),
    "another": (
        "This code and the one in BENCHMARK_AGAINST, on SQLite, in turns",
        against_another.report,
    ),
}

#: The measurements of a run that names none.
USUAL = ("acks", "mirrored", "apply", "latency", "overload", "memory", "workers", "history")
QUICK = ("acks", "mirrored", "apply")


def main() -> None:
    chosen = sys.argv[1:] or list(scale.either(USUAL, QUICK))
    if chosen == ["all"]:
        chosen = list(MEASUREMENTS)
    unknown = [name for name in chosen if name not in MEASUREMENTS]
    if unknown:
        raise SystemExit(f"There is no measurement {unknown[0]!r}: choose from all, {', '.join(MEASUREMENTS)}.")
    setup = _setup()
    for line in setup.values():
        print(line)
    record = Record(setup)
    for name in chosen:
        title, measure = MEASUREMENTS[name]
        began = time.perf_counter()
        print(f"\n{title}", flush=True)
        found = measure()
        report = found if isinstance(found, Report) else Report(found)
        for line in report.lines:
            print(f"  {line}", flush=True)
        seconds = time.perf_counter() - began
        print(f"  ({name} took {seconds:.0f} s)", flush=True)
        record.add(name, title, report, seconds)
    print(f"\nAll figures are in {FOLDER}: figures.json and figures.svg.")


def _setup() -> dict[str, str]:
    return {
        "machine": f"Python {platform.python_version()}, {cpu_count()} cores, {cores.there():.2f} of them available",
        "SQLite": f"SQLite {sqlite3.sqlite_version}, WAL, synchronous=FULL",
        "PostgreSQL": postgresql.described(),
        "load": "wrk with one thread on the same machine",
    }


if __name__ == "__main__":
    main()
