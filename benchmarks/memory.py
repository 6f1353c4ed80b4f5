"""The memory of all processes of `serve` while 100,000 events pass through endpoint, inbox, worker and mirror.

The worker has a process of its own, and the console is in use meanwhile.
"""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path

import httpx

from benchmarks import load, mirrored, processor
from benchmarks.browsing import signed_in
from benchmarks.rounds import Figure, Report, Spread
from benchmarks.servers import running
from receiver.database.database import Database

EVENTS = int(os.environ.get("BENCHMARK_EVENTS", "100000"))

#: Events after which the server is warm: its caches are full and its allocator has reserved its arenas.
WARM = min(20_000, EVENTS // 5)

#: Seconds of load between two readings, and most seconds for the worker's remaining work at the end.
SECONDS, TIMEOUT = 2, 900

#: Bodies for the seconds between two readings, more than are taken.
POOL = 20_000 * SECONDS

#: Pages of the console that are opened between two readings.
PAGES = ("", "/deliveries", "/mirror/products", "/sources/iimmpact")


def report() -> Report:
    readings: list[tuple[int, float]] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = running("hookmirror", folder, "--worker-process", "--console")
        url, process = stack.enter_context(server)
        person = stack.enter_context(closing(signed_in(url)))
        sent = rounds = 0
        while sent < EVENTS:
            sent += _send(url, folder / "pool.txt", rounds * POOL)
            rounds += 1
            _look(person)
            readings.append((sent, processor.memory(process)))
        beside = stack.enter_context(closing(Database(f"sqlite:///{folder / 'hookmirror.db'}")))
        ended = _wait_until_drained(beside)
        _look(person)
        each = processor.memory_of_each(process)
        readings.append((sent, sum(each)))
        once = processor.memory_once(process)
    assert ended >= sent, f"of {sent} acked events, only {ended} were processed"
    return _told(readings, each, once)


def _told(readings: list[tuple[int, float]], each: list[float], once: float) -> Report:
    warm = [megabytes for events, megabytes in readings if events >= WARM]
    spread = Spread.of(warm)
    half = warm[len(warm) // 2 :]
    lines = [
        f"{readings[-1][0]:,} events, all processed; in MB: {warm[0]:.0f} when warm, {warm[-1]:.0f} at the end, "
        f"{spread.most:.0f} at the most",
        f"least / most when warm    {spread.least / spread.most:.2f}",
        f"end / middle of the run   {half[-1] / half[0]:.2f}",
        f"at the end, with shared pages counted once: {once:.0f} MB",
        f"each of {len(each)} processes at the end: {', '.join(f'{megabytes:.0f}' for megabytes in each)}",
    ]
    return Report(lines, [Figure("memory of all processes of the server, from warm to the end", "MB", warm)])


def _send(url: str, pool: Path, first: int) -> int:
    """Send new events for some seconds, and return how many were acked."""
    load.write_pool(pool, first, POOL)
    seen = load.send(url, pool, seconds=SECONDS)
    assert seen.failed == 0, f"refused {seen.failed} requests"
    assert seen.answers < POOL, "took all bodies, and then duplicates: make the pool larger"
    return seen.answers


def _look(person: httpx.Client) -> None:
    for path in PAGES:
        person.get(path, follow_redirects=True).raise_for_status()


def _wait_until_drained(database: Database) -> int:
    """Wait until the worker has no work left, and return the number of processed events."""
    until = time.monotonic() + TIMEOUT
    while mirrored.asked(database, mirrored.WAITING):
        if time.monotonic() > until:
            raise RuntimeError(f"the worker did not drain its backlog within {TIMEOUT} s")
        time.sleep(1)
    return mirrored.asked(database, mirrored.PROCESSED)
