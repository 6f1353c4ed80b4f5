"""`make bench`: runs all measurements, or those named.

All of them take about a quarter of an hour on a machine that does nothing else.
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
    following,
    history,
    latency,
    memory,
    postgresql,
    searching,
    sending,
    strangers,
    workers,
)

MEASUREMENTS: dict[str, tuple[str, Callable[[], list[str]]]] = {
    "acks": ("Durable acks, 64 connections, bodies of 1 kB, one server process", acks.report),
    "apply": ("Events applied by one worker", apply.report),
    "bundles": ("Events in a body of a hundred, compared with events in bodies of their own", bundles.report),
    "workers": ("Events applied by two workers, on PostgreSQL", workers.report),
    "dbos": ("Events applied by one worker, and by DBOS Transact on the same PostgreSQL", against_dbos.report),
    "latency": ("Ack latency beside a worker", latency.report),
    "strangers": ("Durable acks beside strangers that hold connections", strangers.report),
    "memory": ("Memory", memory.report),
    "another": (
        "This code and the one in BENCHMARK_AGAINST, on SQLite, in turns",
        against_another.report,
    ),
    "sending": ("The simulator as a load generator", sending.report),
    "copying": ("A database copied into another, and compared", copying.report),
    "following": ("The change feed posted to a target by a follower", following.report),
    "searching": ("Lists and searches over a million deliveries and 200,000 rows", searching.report),
    "browsing": ("Pages of the console over a million deliveries and 200,000 rows", browsing.report),
    "history": ("Cost of a batch with a growing number of ended deliveries", history.report),
}


def main() -> None:
    chosen = sys.argv[1:] or list(MEASUREMENTS)
    unknown = [name for name in chosen if name not in MEASUREMENTS]
    if unknown:
        raise SystemExit(f"There is no measurement {unknown[0]!r}: choose from {', '.join(MEASUREMENTS)}.")
    print(f"Python {platform.python_version()}, {cpu_count()} cores")
    print(f"SQLite {sqlite3.sqlite_version}, WAL, synchronous=FULL")
    print(postgresql.described())
    for name in chosen:
        title, report = MEASUREMENTS[name]
        began = time.perf_counter()
        print(f"\n{title}", flush=True)
        for line in report():
            print(f"  {line}", flush=True)
        print(f"  ({name} took {time.perf_counter() - began:.0f} s)", flush=True)


main()
