"""`make bench`: all measurements, or those named. Some minutes; on a machine that does nothing else."""

from __future__ import annotations

import platform
import sqlite3
import sys
from collections.abc import Callable
from os import cpu_count

from benchmarks import acks, apply, latency, memory, sending

MEASUREMENTS: dict[str, tuple[str, Callable[[], list[str]]]] = {
    "acks": ("Durable acks, 64 connections, bodies of 1 kB, one server process", acks.report),
    "apply": ("Events applied by one worker", apply.report),
    "latency": ("Ack latency beside a worker", latency.report),
    "memory": ("Memory", memory.report),
    "sending": ("The simulator as a load generator", sending.report),
}


def main() -> None:
    chosen = sys.argv[1:] or list(MEASUREMENTS)
    unknown = [name for name in chosen if name not in MEASUREMENTS]
    if unknown:
        raise SystemExit(f"There is no measurement {unknown[0]!r}: choose from {', '.join(MEASUREMENTS)}.")
    print(f"Python {platform.python_version()}, {cpu_count()} cores")
    print(f"SQLite {sqlite3.sqlite_version}, WAL, synchronous=FULL")
    for name in chosen:
        title, report = MEASUREMENTS[name]
        print(f"\n{title}")
        for line in report():
            print(f"  {line}", flush=True)


main()
