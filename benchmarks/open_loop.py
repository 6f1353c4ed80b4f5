"""A load generator that sends at a given rate whether answers come or not, as many senders do together.

With a rate of 0, each connection sends its next webhook after an answer instead, which finds the most that a server
takes.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import re
import subprocess
import sys
import time
from collections import Counter
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import uvloop

from benchmarks.senders import IIMMPACT, SECRET, time_of
from receiver.ingest.connections import allow_open_files

#: Connections that are opened at once, and seconds between two checks for due requests.
OPENED, TICK = 200, 0.002

#: Seconds for the last answers, and between two attempts to open a connection.
GRACE, AGAIN = 15.0, 0.1

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Answered(NamedTuple):
    """The answers that the senders got."""

    #: Answers by status. "lost" counts requests whose connection ended, "unanswered" those that got no answer in time,
    #: and "not connected" connections that could not be opened.
    statuses: dict[str, int]
    #: Webhooks that were due while every connection waited for an answer.
    unsent: int
    #: Answers 2xx a second during the load, and their 99th percentile in milliseconds.
    goodput: float
    p99: float


def send(url: str, *, rate: float, seconds: float, connections: int) -> Answered:
    """Run the generator in a process of its own, and return its results."""
    arguments = [url, str(rate), str(seconds), str(connections)]
    command = [sys.executable, "-m", "benchmarks.open_loop", *arguments]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 120)
    return Answered(**json.loads(told.stdout))


class _Load:
    """One load on one server."""

    def __init__(self, url: str, rate: float, seconds: float, connections: int) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 0
        self.rate, self._seconds, self._connections = rate, seconds, connections
        self._before, self._after = IIMMPACT.body(0).split(time_of(0).encode())
        self._number = 0
        self.idle: list[_Connection] = []
        self.statuses: Counter[str] = Counter()
        self.latencies: list[float] = []
        self.until = 0.0
        self._opening: set[asyncio.Future[None]] = set()
        self.waiting = 0

    async def run(self) -> Answered:
        while (missing := self._connections - len(self.idle)) > 0:
            await asyncio.gather(*(self._open() for _ in range(min(OPENED, missing))))
        began = time.perf_counter()
        self.until = began + self._seconds
        unsent = await self._keep_the_rate(began) if self.rate else await self._keep_busy()
        last = time.perf_counter() + GRACE
        while self.waiting and time.perf_counter() < last:
            await asyncio.sleep(0.05)
        self.statuses["unanswered"] += self.waiting
        self.latencies.sort()
        p99 = self.latencies[len(self.latencies) * 99 // 100] * 1_000 if self.latencies else 0.0
        return Answered(dict(+self.statuses), unsent, len(self.latencies) / self._seconds, p99)

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: _Connection(self), self._host, self._port)

    def reopen(self) -> None:
        """Open a connection in the place of one that has ended, as its sender would."""
        opening = asyncio.ensure_future(self._insist())
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)

    async def _insist(self) -> None:
        """Open a connection, as often as it takes."""
        while time.perf_counter() < self.until:
            try:
                await self._open()
            except OSError:
                self.statuses["not connected"] += 1
                await asyncio.sleep(AGAIN)
            else:
                return

    async def _keep_busy(self) -> int:
        idle, self.idle = self.idle, []
        for connection in idle:
            connection.send()
        await asyncio.sleep(self._seconds)
        return 0

    async def _keep_the_rate(self, began: float) -> int:
        due = unsent = 0
        while (now := time.perf_counter()) < self.until:
            late = int((now - began) * self.rate) - due
            due += late
            sent = min(late, len(self.idle))
            for _ in range(sent):
                self.idle.pop().send()
            unsent += late - sent
            await asyncio.sleep(TICK)
        return unsent

    def request(self) -> bytes:
        """Make the next webhook. All are distinct."""
        self._number += 1
        body = self._before + time_of(self._number).encode() + self._after
        signature = hmac.digest(SECRET.encode(), body, "sha256").hex().encode()
        return (
            b"POST /hooks/iimmpact HTTP/1.1\r\nHost: receiver\r\nContent-Type: application/json\r\n"
            b"X-Webhook-Signature: sha256=%b\r\nContent-Length: %d\r\n\r\n%b" % (signature, len(body), body)
        )


class _Connection(asyncio.Protocol):
    """Sends one webhook at a time."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        #: The time at which it sent the webhook that waits for an answer; 0 while none does.
        self._since = 0.0
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._load.idle.append(self)

    def send(self) -> None:
        self._since = time.perf_counter()
        self._load.waiting += 1
        self._transport.write(self._load.request())

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, blank, rest = self._read.partition(b"\r\n\r\n")
        if not blank or len(rest) < int(_LENGTH.search(head)[1]):  # type: ignore[index]
            return
        self._read = b""
        self._answered(head[9:12].decode(), closes=b"connection: close" in head.lower())

    def _answered(self, status: str, *, closes: bool) -> None:
        load, now = self._load, time.perf_counter()
        load.waiting -= 1
        load.statuses[status] += 1
        if status == "200" and now < load.until:
            load.latencies.append(now - self._since)
        self._since = 0.0
        if closes:
            self._transport.close()
        elif load.rate:
            load.idle.append(self)
        elif now < load.until:
            self.send()

    def connection_lost(self, _: Exception | None) -> None:
        if self._since:
            self._load.waiting -= 1
            self._load.statuses["lost"] += 1
        elif self in self._load.idle:
            self._load.idle.remove(self)
        if time.perf_counter() < self._load.until:
            self._load.reopen()


def main(url: str, rate: float, seconds: float, connections: int) -> None:
    allow_open_files(connections)
    answered = uvloop.run(_Load(url, rate, seconds, connections).run())
    print(json.dumps(answered._asdict()))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
