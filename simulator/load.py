"""Sending at full speed: all requests are made in advance, and each connection sends the next one at once.

This measures the speed of a receiver. The usual sender, in delivery.py, also keeps the order, retries, and waits.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

from simulator.connection import Address, NoAnswerError, connect, request_bytes
from simulator.delivery import Log
from simulator.report import SourceReport
from simulator.run import split
from simulator.scenario import Scenario
from simulator.systems.base import Message, System

#: The end of an answer's head, the header with the length of its body, and the one of a body in chunks.
HEAD_END, LENGTH, CHUNKS = b"\r\n\r\n", b"\r\ncontent-length:", b"\r\ntransfer-encoding:"

#: Seconds without any answer after which sending fails.
SILENCE_TIMEOUT = 30.0


@dataclass(slots=True)
class Sent:
    """The result of sending a load."""

    #: Real seconds from the first request to the last answer.
    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    #: The numbers of the events of which at least one message was acked.
    arrived: set[int] = field(default_factory=set)

    @property
    def per_second(self) -> float:
        return self.statuses.total() / self.seconds if self.seconds else 0.0


def make(system: System, events: int) -> list[Message]:
    """Make the messages of this number of events, each event at least one tick after the one before."""
    messages: list[Message] = []
    begin = system.clock.now()
    while system.events < events:
        for change in system.step(begin + system.events * system.resolution):
            messages += system.messages(change)
    return messages


async def send_load(systems: Sequence[System], scenario: Scenario, *, connections: int) -> list[SourceReport]:
    """Make the scenario's events, then send them at full speed: without faults and retries, and in any order."""
    reports = []
    for system, events in zip(systems, split(scenario.events, len(systems)), strict=True):
        messages = make(system, events)
        sent = await blast(messages, connections=connections)
        good = sum(count for status, count in sent.statuses.items() if 200 <= status < 300)
        log = Log(messages=len(messages), sent=len(messages), acked=good, given_up=len(messages) - good)
        log.statuses, log.latencies, log.arrived = sent.statuses, sent.latencies, sent.arrived
        reports.append(SourceReport(source=system.source, events=system.events, log=log, seconds=sent.seconds))
    return reports


async def blast(messages: Sequence[Message], *, connections: int = 64) -> Sent:
    """Send messages that all go to one address. Raises `NoAnswerError` if a connection ends before its answer."""
    requests = [(each.number, request_bytes(each.url, each.headers, each.body)) for each in messages]
    sent, waiting = Sent(), iter(requests)
    if not messages:
        return sent
    address = Address.of(messages[0].url)
    began = time.perf_counter()
    wires: list[_Wire] = []
    try:
        while len(wires) < min(connections, len(requests)):
            wires.append(await connect(lambda: _Wire(waiting, sent), address))
        await watch(wires, sent)
    finally:
        for wire in wires:
            wire.close()
    sent.seconds = time.perf_counter() - began
    return sent


async def watch(wires: Sequence[_Wire], sent: Sent) -> None:
    """Wait until every wire has all its answers. Raises `NoAnswerError` if one fails, or if the answers stop."""
    ends = asyncio.gather(*(wire.end for wire in wires))
    answers = -1
    while not ends.done():
        if sent.statuses.total() == answers:
            ends.cancel()
            raise NoAnswerError(f"no answer for {SILENCE_TIMEOUT:.0f} s")
        answers = sent.statuses.total()
        await asyncio.wait([ends], timeout=SILENCE_TIMEOUT)
    ends.result()


class _Wire(asyncio.Protocol):
    """One connection. It sends the next request when the answer to the last one is complete."""

    def __init__(self, requests: Iterator[tuple[int, bytes]], sent: Sent) -> None:
        """`requests` has the number of the event in front of each request."""
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._requests = requests
        self._statuses = sent.statuses
        self._latencies = sent.latencies
        self._arrived = sent.arrived
        self._number = 0
        self._answers = 0
        self._received = b""
        self._began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not instances of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)
        self._next()

    def data_received(self, data: bytes) -> None:
        received = _without_interim(self._received + data if self._received else data)
        head = received.find(HEAD_END)
        try:
            is_whole = head >= 0 and len(received) >= head + len(HEAD_END) + body_length(received, head)
            status = int(received[9:12]) if is_whole else 0
        except ValueError:
            self._fail("the answer is not HTTP/1.1 with a Content-Length, which --prepared needs")
            self._transport.abort()
            return
        if not is_whole:
            self._received = received
            return
        self._received = b""
        self._answers += 1
        self._statuses[status] += 1
        if 200 <= status < 300:
            self._arrived.add(self._number)
        self._latencies.append(time.perf_counter() - self._began)
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        reason = str(error or "the connection was closed before the answer")
        # A receiver that closes each connection after an answer looks like one that is lost.
        closing = (
            f" (answers before: {self._answers}): --prepared needs connections that stay open" if self._answers else ""
        )
        self._fail(f"{reason}{closing}")

    def _fail(self, reason: str) -> None:
        if not self.end.done():
            self.end.set_exception(NoAnswerError(reason))

    def close(self) -> None:
        self._transport.close()

    def _next(self) -> None:
        following = next(self._requests, None)
        if following is not None:
            self._number, request = following
            self._began = time.perf_counter()
            self._transport.write(request)
        elif not self.end.done():
            self.end.set_result(None)


def _without_interim(received: bytes) -> bytes:
    """The received bytes behind interim answers, such as 103, which the answer follows."""
    while received.startswith(b"HTTP/") and received[9:10] == b"1" and (head := received.find(HEAD_END)) >= 0:
        received = received[head + len(HEAD_END) :]
    return received


def body_length(received: bytes, head: int) -> int:
    """Read the Content-Length header; 0 without one. Raises `ValueError` for a body whose end it does not tell."""
    lowered = received[: head + 2].lower()
    if CHUNKS in lowered:
        raise ValueError("chunks")
    start = lowered.find(LENGTH)
    if start < 0:
        return 0
    return int(lowered[start + len(LENGTH) : lowered.find(b"\r\n", start + 2)])
