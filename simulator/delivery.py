"""Sending: the messages of one source, over its own connections, retried on the system's schedule."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

from receiver import codec
from receiver.errors import Unreadable
from simulator.clock import Clock
from simulator.connection import Address, Answer, Connection, NoAnswerError, request_bytes
from simulator.faults import Fate, Planned
from simulator.systems.base import Message, RetryPolicy

#: Messages waiting for a connection, per lane; then the history waits too.
LANE = 64


@dataclass(slots=True)
class Log:
    """What came of the messages of one source."""

    #: Messages that were due, their duplicates not counted.
    messages: int = 0
    #: Times a request went over the wire, duplicates and retries included.
    sent: int = 0
    retries: int = 0
    #: Answers 2xx, and of these, those that called the delivery a duplicate.
    acked: int = 0
    duplicates: int = 0
    #: Messages that fate dropped, and those that failed for good after their last retry.
    dropped: int = 0
    given_up: int = 0
    #: Answers by their status; 0 for none.
    statuses: Counter[int] = field(default_factory=Counter)
    #: Seconds from the request to its answer, for those acked.
    latencies: list[float] = field(default_factory=list)
    #: Numbers of the events of which at least one message was acked.
    arrived: set[int] = field(default_factory=set)
    #: Why requests failed, by their number.
    reasons: Counter[str] = field(default_factory=Counter)


class Courier:
    """Sends the messages of one source. Messages of one family keep their order, unless fate shuffles them."""

    def __init__(
        self, url: str, *, clock: Clock, retries: RetryPolicy, fate: Fate, log: Log | None = None, lanes: int = 4
    ) -> None:
        self.log = log or Log()
        self._clock = clock
        self._retries = retries
        self._fate = fate
        address = Address.of(url)
        self._lanes = [_Lane(Connection(address)) for _ in range(lanes)]
        self._workers = [asyncio.create_task(self._work(lane)) for lane in self._lanes]
        self._later: set[asyncio.Task[None]] = set()
        self._error: Exception | None = None

    async def send(self, message: Message) -> None:
        """Hand a message over. It is sent in the background."""
        self.log.messages += 1
        for planned in self._fate.meet(message):
            await self._dispatch(planned)

    async def finish(self) -> None:
        """Wait until everything is sent, retries included."""
        for planned in self._fate.rest():
            await self._dispatch(planned)
        await self._settle()

    async def close(self) -> None:
        for task in (*self._workers, *self._later):
            task.cancel()
        await asyncio.gather(*self._workers, *self._later, return_exceptions=True)
        for lane in self._lanes:
            lane.connection.close()

    async def _settle(self) -> None:
        """Retries put messages back into the lanes, so look until nothing is left anywhere."""
        while self._later or any(lane.queue.qsize() or lane.busy for lane in self._lanes):
            if self._later:
                await asyncio.wait(self._later, timeout=0.5)
            for lane in self._lanes:
                await lane.queue.join()
            if self._error is not None:
                raise self._error

    async def _dispatch(self, planned: Planned) -> None:
        if planned.dropped:
            self.log.dropped += 1
        elif planned.delay:
            self._background(self._after(planned.delay, _Try(planned.message)))
        else:
            await self._lane(planned.message).queue.put(_Try(planned.message))

    async def _after(self, seconds: float, attempt: _Try) -> None:
        await self._clock.sleep(seconds)
        await self._lane(attempt.message).queue.put(attempt)

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    def _lane(self, message: Message) -> _Lane:
        return self._lanes[crc32(message.family.encode()) % len(self._lanes)]

    async def _work(self, lane: _Lane) -> None:
        while True:
            attempt = await lane.queue.get()
            lane.busy = True
            try:
                await self._try(lane, attempt)
            except Exception as error:  # a mistake of the simulator's own: told by `finish`, and no lane hangs
                self._error = error
            finally:
                lane.busy = False
                lane.queue.task_done()

    async def _try(self, lane: _Lane, attempt: _Try) -> None:
        message = attempt.message
        request = request_bytes(message.url, message.headers, message.body)
        self.log.sent += 1
        started = time.perf_counter()
        try:
            answer: Answer | None = await lane.connection.post(request)
        except NoAnswerError as error:
            answer = None
            self.log.reasons[str(error)] += 1
        if answer is not None and 200 <= answer.status < 300:
            self._acked(message, answer, time.perf_counter() - started)
        else:
            self._failed(attempt, answer)

    def _acked(self, message: Message, answer: Answer, seconds: float) -> None:
        self.log.statuses[answer.status] += 1
        self.log.acked += 1
        self.log.latencies.append(seconds)
        self.log.arrived.add(message.number)
        self.log.duplicates += _member(answer, "status") == "duplicate"

    def _failed(self, attempt: _Try, answer: Answer | None) -> None:
        status = answer.status if answer else None
        self.log.statuses[status or 0] += 1
        if answer is not None:
            self.log.reasons[f"{answer.status} {_member(answer, 'error') or ''}".strip()] += 1
        delay = self._retries.delay(attempt.number, status)
        if delay is None:
            self.log.given_up += 1
        else:
            self.log.retries += 1
            self._background(self._after(delay, _Try(attempt.message, attempt.number + 1)))


@dataclass(frozen=True, slots=True)
class _Try:
    message: Message
    #: 1 for the first time.
    number: int = 1


class _Lane:
    """A connection with the messages waiting for it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.queue: asyncio.Queue[_Try] = asyncio.Queue(maxsize=LANE)
        self.busy = False


def _member(answer: Answer, name: str) -> Any:
    """A member of a JSON answer; None if the receiver speaks otherwise."""
    try:
        document = codec.decode(answer.body)
    except Unreadable:
        return None
    return document.get(name) if isinstance(document, dict) else None
