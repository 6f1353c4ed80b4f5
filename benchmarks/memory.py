"""The memory of the server's processes while 100,000 events pass through endpoint, inbox, worker and mirror."""

from __future__ import annotations

import os
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from benchmarks import load, processor
from benchmarks.rounds import Figure, Report
from benchmarks.servers import running, settings
from receiver.api.tokens import Scope, Tokens

EVENTS = int(os.environ.get("BENCHMARK_EVENTS", "100000"))

#: Events after which the server is warm: its caches are full and its allocator has reserved its arenas.
WARM = min(20_000, EVENTS // 5)

#: Seconds of load between two readings, and most seconds for the worker's remaining work at the end.
SECONDS, TIMEOUT = 2, 600


def measure() -> list[tuple[int, float]]:
    """Return the server's resident memory in MB after each number of acked events."""
    readings: list[tuple[int, float]] = []
    with tempfile.TemporaryDirectory() as folder, running("hookmirror", Path(folder)) as (url, process):
        pool = Path(folder) / "pool.txt"
        sent = 0
        while sent < EVENTS:
            load.write_pool(pool, sent, 30_000)
            sent += int(load.send(url, pool, seconds=SECONDS).requests_per_second * SECONDS)
            readings.append((sent, processor.memory(process)))
        _wait_until_drained(url, Path(folder))
        readings.append((sent, processor.memory(process)))
    return readings


def report() -> Report:
    readings = measure()
    warm = [megabytes for events, megabytes in readings if events >= WARM]
    lines = [
        f"{readings[-1][0]:,} events; memory when warm {warm[0]:.0f} MB, at the end {warm[-1]:.0f} MB",
        f"least / most when warm    {min(warm) / max(warm):.2f}",
    ]
    return Report(lines, [Figure("memory of all processes of the server, from warm to the end", "MB", warm)])


def _wait_until_drained(url: str, folder: Path) -> None:
    token = _token(settings(folder)["HOOKMIRROR_SECRET_KEY"])
    until = time.monotonic() + TIMEOUT
    while time.monotonic() < until:
        answer: dict[str, Any] = httpx.get(
            f"{url}/api/v1/stats", headers={"authorization": f"Bearer {token}"}, timeout=60
        ).json()
        if not any(source["states"]["pending"] + source["states"]["processing"] for source in answer["sources"]):
            return
        time.sleep(1)
    raise RuntimeError(f"the worker did not drain its backlog within {TIMEOUT} s")


def _token(key: str) -> str:
    return Tokens([key]).issue(Scope.READ, now=datetime.now(UTC), lifetime=timedelta(hours=1))
