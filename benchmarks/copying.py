"""Speed of `hookmirror copy` from SQLite to PostgreSQL and back, with its checks and its comparison."""

from __future__ import annotations

import os
import resource
import tempfile
import time
from contextlib import closing
from pathlib import Path

from benchmarks import ended
from benchmarks.postgresql import fresh_database
from receiver.copying.copying import Copier, CopyReport
from receiver.copying.preconditions import Side
from receiver.database.database import Database
from receiver.database.schema import Schema

DELIVERIES = int(os.environ.get("BENCHMARK_COPYING", "100000"))


def report() -> list[str]:
    """Report rows per second each way, and the most memory that the process used."""
    with tempfile.TemporaryDirectory() as folder, fresh_database() as there:
        here, back = (f"sqlite:///{Path(folder) / name}" for name in ("here.db", "back.db"))
        with closing(Database(here)) as database:
            Schema(database).upgrade()
        ended.fill(here, DELIVERIES)
        size = (Path(folder) / "here.db").stat().st_size // 1_000_000
        lines = [f"{DELIVERIES:,} deliveries with keys and bodies, {size} MB on SQLite"]
        for name, source, target in (("SQLite to PostgreSQL", here, there), ("PostgreSQL to SQLite", there, back)):
            began = time.perf_counter()
            copied = _copy(source, target)
            took = time.perf_counter() - began
            lines.append(f"{name}: {copied.copied:,} rows in {took:.1f} s, {copied.copied / took:,.0f} rows/s")
        lines.append(f"memory at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_000:,.0f} MB")
    return lines


def _copy(source: str, target: str) -> CopyReport:
    sides = Side("FROM", source), Side("TO", target)
    try:
        done = Copier(*sides).copy()
    finally:
        for side in sides:
            side.database.close()
    assert done.same, done.differences
    return done
