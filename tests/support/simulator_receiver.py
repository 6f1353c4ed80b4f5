"""A receiver for tests of sending, which answers as told and records the requests; and messages for it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from waiting import TIMEOUT

from simulator.delivery import Courier
from simulator.fault_plan import FaultPlan
from simulator.faults import Faults
from simulator.systems.base import Message

START = datetime(2026, 3, 8, 10, tzinfo=UTC)


def message(number=1, *, url="http://127.0.0.1:1/hooks/sigma", family="a", **more):
    headers = {"X-Number": str(number)}
    return Message(number=number, event_type="x", at=START, family=family, url=url, headers=headers, body=b"{}", **more)


class _Line(asyncio.Protocol):
    """One connection to the receiver: reads whole requests and answers each as told."""

    def __init__(self, lines, answer_to):
        self._lines = lines
        self._answer_to = answer_to
        self._received = b""

    def connection_made(self, transport):
        self.transport = transport
        self._lines.add(self)

    def connection_lost(self, error):
        self._lines.discard(self)

    def data_received(self, data):
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]) if end else 0
        if not end or len(rest) < length:
            return
        self._received = rest[length:]
        answer = self._answer_to(head + end, rest[:length])
        if answer is None:
            self.transport.close()
        else:
            self.transport.write(answer)


def served(scene, *statuses, answer=b'{"status": "accepted", "delivery": "d"}', bodies=None):
    """Run `scene(url, requests)` beside a server that answers with these statuses in turn; the last one repeats.

    Status 0 closes the connection. The heads of the requests are in `requests`, their bodies in `bodies` if that is
    a list.
    """
    requests, lines = [], set()

    def answer_to(head, body):
        requests.append(head)
        if bodies is not None:
            bodies.append(body)
        status = statuses[min(len(requests), len(statuses)) - 1]
        head = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(answer))
        return head + answer if status else None

    async def main():
        server = await asyncio.get_running_loop().create_server(lambda: _Line(lines, answer_to), "127.0.0.1", 0)
        async with server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hooks/sigma"
            try:
                return await asyncio.wait_for(scene(url, requests), TIMEOUT)
            finally:
                for line in [*lines]:
                    line.transport.abort()
                await until(lambda: not lines)

    return asyncio.run(main())


def courier_for(clock, *, retries, faults=None, on_attempt=None):
    fault_plan = FaultPlan(faults or Faults(), seed=1, source="sigma", events=0)
    return Courier(clock=clock, retries=retries, fault_plan=fault_plan, on_attempt=on_attempt)


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)
