"""The courier, which sends the messages of one source over its own connections, with the system's retries."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

from receiver import codec
from receiver.errors import Unreadable
from simulator.clock import Clock
from simulator.connection import Address, Answer, Connection, Manner, NoAnswerError, request_bytes
from simulator.fault_plan import NONE, FaultPlan, Planned, Trouble, damaged
from simulator.systems.base import Attempt, Message, RetryPolicy

#: Messages that may wait in one lane. When a lane is full, the history waits.
LANE = 64


@dataclass(slots=True)
class Log:
    """The results of sending the messages of one source."""

    #: Messages that were due, without their duplicates.
    messages: int = 0
    #: Requests that went over the wire, with duplicates and retries.
    sent: int = 0
    retries: int = 0
    #: Answers 2xx, and the part of them that called the delivery a duplicate.
    acked: int = 0
    duplicates: int = 0
    #: Messages that never arrived: dropped by the fault plan, or given up after the receiver refused the last attempt.
    dropped: int = 0
    given_up: int = 0
    #: Damaged and forged messages that were sent, and the part of them that the receiver acked.
    spoiled: int = 0
    believed: int = 0
    #: Answers to damaged and forged messages, by status; 0 for no answer.
    refusals: Counter[int] = field(default_factory=Counter)
    #: Answers to all other attempts, by status; 0 for no answer.
    statuses: Counter[int] = field(default_factory=Counter)
    #: Seconds from a request to its answer, for acked requests.
    latencies: list[float] = field(default_factory=list)
    #: The numbers of the events of which at least one message was acked.
    arrived: set[int] = field(default_factory=set)
    #: The ids of the deliveries, as the receiver's answers name them; empty if its answers name none.
    kept: set[str] = field(default_factory=set)
    #: The reasons of failed requests, with the number of requests for each.
    reasons: Counter[str] = field(default_factory=Counter)


class Courier:
    """Sends the messages of one source. The messages of a family keep their order unless the fault plan changes it."""

    def __init__(
        self,
        *,
        clock: Clock,
        retries: RetryPolicy,
        fault_plan: FaultPlan,
        on_attempt: Callable[[Attempt], None] | None = None,
        lanes: int = 4,
    ) -> None:
        self.log = Log()
        self._clock = clock
        self._retries = retries
        self._fault_plan = fault_plan
        self._on_attempt = on_attempt
        self._lanes_per_address = lanes
        self._lanes: dict[tuple[Address, int], _Lane] = {}
        self._workers: list[asyncio.Task[None]] = []
        self._later: set[asyncio.Task[None]] = set()
        self._error: Exception | None = None

    async def send(self, message: Message) -> None:
        """Take over a message, which is then sent in the background."""
        if message.forged:
            await self._lane(message).queue.put(_Try(message))
            return
        self.log.messages += 1
        for planned in self._fault_plan.meet(message):
            await self._dispatch(planned)

    async def finish(self) -> None:
        """Wait until all messages are sent and the last retry is over."""
        for planned in self._fault_plan.rest():
            await self._dispatch(planned)
        await self._settle()

    async def close(self) -> None:
        for task in (*self._workers, *self._later):
            task.cancel()
        await asyncio.gather(*self._workers, *self._later, return_exceptions=True)
        for lane in self._lanes.values():
            lane.connection.close()

    async def _settle(self) -> None:
        """Wait until all lanes are empty and no retry is due. Retries put messages back into the lanes."""
        while self._error is None and (self._later or any(lane.open for lane in self._lanes.values())):
            if self._later:
                await asyncio.wait(self._later, timeout=0.5)
            for lane in [*self._lanes.values()]:
                await lane.queue.join()
        if self._error is not None:
            raise self._error

    async def _dispatch(self, planned: Planned) -> None:
        if planned.dropped:
            self.log.dropped += 1
        elif planned.delay:
            self._background(self._after(planned.delay, _Try(planned.message, planned.trouble)))
        else:
            await self._lane(planned.message).queue.put(_Try(planned.message, planned.trouble))

    async def _after(self, seconds: float, attempt: _Try) -> None:
        await self._clock.sleep(seconds)
        await self._lane(attempt.message).queue.put(attempt)

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    def _lane(self, message: Message) -> _Lane:
        key = (Address.of(message.url), crc32(message.family.encode()) % self._lanes_per_address)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(Connection(key[0]))
            self._workers.append(asyncio.create_task(self._work(lane)))
        return lane

    async def _work(self, lane: _Lane) -> None:
        while True:
            attempt = await lane.queue.get()
            lane.busy = True
            try:
                await self._try(lane, attempt)
            except Exception as error:  # a mistake in the simulator: `finish` raises it, and the lane continues
                self._error = error
            finally:
                lane.busy = False
                lane.queue.task_done()

    async def _try(self, lane: _Lane, attempt: _Try) -> None:
        started = time.perf_counter()
        answer = await self._post(lane, attempt)
        seconds = time.perf_counter() - started
        self._tell(attempt, answer, seconds)
        good = answer is not None and 200 <= answer.status < 300
        if attempt.message.forged or attempt.damaged:
            self.log.spoiled += 1
            self.log.believed += good
            self.log.refusals[answer.status if answer else 0] += 1
        if attempt.message.forged:
            return
        if answer is not None and good and not attempt.damaged:
            self._acked(attempt, answer, seconds)
        else:
            self._failed(attempt, answer)

    async def _post(self, lane: _Lane, attempt: _Try) -> Answer | None:
        if attempt.unreachable:
            return None
        message, trouble = attempt.message, attempt.trouble if attempt.number == 1 else NONE
        request = request_bytes(message.url, message.headers, damaged(message.body, trouble))
        manner = Manner(pause=trouble.pause / self._clock.speed, cut=trouble.cut, cut_after=trouble.cut_after)
        self.log.sent += 1
        try:
            return await lane.connection.post(request, manner)
        except NoAnswerError as error:
            if not (message.forged or trouble.fails):
                self.log.reasons[str(error)] += 1
            return None

    def _tell(self, attempt: _Try, answer: Answer | None, seconds: float) -> None:
        if self._on_attempt is not None:
            status, body = (answer.status, answer.body) if answer else (None, b"")
            self._on_attempt(Attempt(message=attempt.message, status=status, answer=body, seconds=seconds))

    def _acked(self, attempt: _Try, answer: Answer, seconds: float) -> None:
        self.log.statuses[answer.status] += 1
        self.log.acked += 1
        if not attempt.trouble.pause:
            self.log.latencies.append(seconds)
        if attempt.message.number:
            self.log.arrived.add(attempt.message.number)
        told = _members(answer)
        self.log.duplicates += told.get("status") == "duplicate"
        if isinstance(told.get("delivery"), str):
            self.log.kept.add(told["delivery"])

    def _failed(self, attempt: _Try, answer: Answer | None) -> None:
        status = answer.status if answer else None
        if not attempt.spoiled:
            self.log.statuses[status or 0] += 1
            if answer is not None:
                self.log.reasons[f"{answer.status} {_members(answer).get('error', '')}".strip()] += 1
        delay = self._retries.delay(attempt.number, status)
        if delay is not None:
            self.log.retries += 1
            self._background(self._after(delay, _Try(attempt.message, attempt.trouble, attempt.number + 1)))
        elif attempt.spoiled:
            self.log.dropped += 1
        else:
            self.log.given_up += 1


@dataclass(frozen=True, slots=True)
class _Try:
    message: Message
    trouble: Trouble = NONE
    #: The number of the attempt, from 1.
    number: int = 1

    @property
    def unreachable(self) -> bool:
        """Whether the fault plan makes this attempt fail to connect."""
        return self.number <= self.trouble.failures

    @property
    def damaged(self) -> bool:
        return self.number == 1 and self.trouble.damage is not None and not self.unreachable

    @property
    def spoiled(self) -> bool:
        """Whether the fault plan, and not the receiver, makes this attempt fail."""
        return self.unreachable or (self.number == 1 and self.trouble.fails)


class _Lane:
    """A connection and the messages that wait for it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.queue: asyncio.Queue[_Try] = asyncio.Queue(maxsize=LANE)
        self.busy = False

    @property
    def open(self) -> bool:
        return self.busy or self.queue.qsize() > 0


def _members(answer: Answer) -> dict[str, Any]:
    """Read the members of a JSON answer; an empty dict if the answer is not a JSON object."""
    try:
        document = codec.decode(answer.body)
    except Unreadable:
        return {}
    return document if isinstance(document, dict) else {}
