"""Durable acks beside strangers: silent connections, and heads that arrive byte by byte."""

from __future__ import annotations

import resource
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from benchmarks import load
from benchmarks.servers import running

IDLE = 10_000
SLOW = 1_000

ROUNDS = 3
SECONDS = 4

#: Bodies of one measurement, more than the server takes.
POOL = 60_000

#: Seconds between two bytes of a slow head.
DRIP = 5.0

#: Addresses of this machine from which strangers connect: one address has too few ports.
ADDRESSES = tuple(f"127.0.0.{number}" for number in range(2, 10))


class Strangers:
    """Connections that send nothing, and others whose head never ends. If the server closes one, it is opened again."""

    def __init__(self, url: str, *, idle: int, slow: int) -> None:
        parts = urlsplit(url)
        self._server = (parts.hostname or "", parts.port or 0)
        self._wanted = idle + slow
        self._slow = slow
        self._open: list[socket.socket] = []
        self._stopping = threading.Event()
        #: The number of connections that the server closed.
        self.closed = 0

    def run(self) -> None:
        while not self._stopping.wait(0 if len(self._open) < self._wanted else DRIP):
            self._drip()
            while len(self._open) < self._wanted and not self._stopping.is_set():
                self._open.append(self._connect(len(self._open)))

    def are_there(self) -> bool:
        return len(self._open) >= self._wanted

    def stop(self) -> None:
        self._stopping.set()

    def close(self) -> None:
        for connection in self._open:
            connection.close()

    def _connect(self, number: int) -> socket.socket:
        address = ADDRESSES[number % len(ADDRESSES)]
        connection = socket.create_connection(self._server, timeout=20, source_address=(address, 0))
        if number < self._slow:
            connection.sendall(b"POST /hooks/iimmpact HTTP/1.1\r\nX: ")
        connection.setblocking(False)
        return connection

    def _drip(self) -> None:
        kept = []
        for number, connection in enumerate(self._open):
            try:
                if number < self._slow:
                    connection.send(b"x")
                gone = connection.recv(1_024) == b""
            except BlockingIOError:
                gone = False
            except OSError:
                gone = True
            if gone:
                connection.close()
                self.closed += 1
            else:
                kept.append(connection)
        self._open = kept


@contextmanager
def strangers(url: str, *, idle: int, slow: int) -> Iterator[Strangers]:
    """Open this many connections, and close them at the end of the block."""
    coming = Strangers(url, idle=idle, slow=slow)
    thread = threading.Thread(target=coming.run, name="strangers")
    thread.start()
    try:
        until = time.monotonic() + 60
        while not coming.are_there() and thread.is_alive() and time.monotonic() < until:
            time.sleep(0.05)
        yield coming
    finally:
        coming.stop()
        thread.join()
        coming.close()


def report() -> list[str]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = IDLE + SLOW + 1_000
    if hard != resource.RLIM_INFINITY and hard < wanted:
        return [f"needs {wanted} open files, and the system allows {hard}"]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    alone, beside, held, closed = [], [], [], 0
    for number in range(ROUNDS):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            pools = folder / "first.txt", folder / "second.txt"
            for place, pool in enumerate(pools):
                load.write_pool(pool, (2 * number + place) * POOL, POOL)
            with running("hookmirror", folder, "--no-worker") as (url, pid):
                alone.append(load.send(url, pools[0], seconds=SECONDS).requests_per_second)
                before = _resident(pid)
                with strangers(url, idle=IDLE, slow=SLOW) as there:
                    held.append((_resident(pid) - before) / (IDLE + SLOW))
                    seen = load.send(url, pools[1], seconds=SECONDS)
                    closed += there.closed
                assert seen.failed == 0, f"{seen.failed} senders were not acked"
                beside.append(seen.requests_per_second)
    return [
        f"alone                                   {median(alone):>9.0f} requests/s",
        f"beside {IDLE} idle and {SLOW} slow heads    {median(beside):>9.0f} requests/s",
        f"beside / alone                          {median(b / a for a, b in zip(alone, beside, strict=True)):>12.2f}",
        f"memory of one of them                   {median(held) / 1_024:>9.1f} KiB",
        f"of them closed by the server            {closed:>9}",
    ]


def _resident(pid: int) -> int:
    """Return the resident memory of the process in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
