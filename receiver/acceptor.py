"""Group commit: requests that wait at the same time share one transaction, and each is answered after its commit.

One thread writes; while it commits, the next batch gathers. So the batches grow with the load by themselves, and an
idle server answers a single request after a single commit.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import NamedTuple, Protocol

import structlog
from sqlalchemy.exc import SQLAlchemyError

from receiver import metrics
from receiver.database import is_transient
from receiver.errors import Unavailable
from receiver.filing import Accepted, Arrival

log = structlog.get_logger(__name__)

#: Arrivals in one transaction at most: it bounds how long the first of them waits for the last.
LARGEST_BATCH = 256

#: How often a batch is tried before its senders are asked to come back.
TRIES = 3

#: Seconds that a request waits for its commit; a sender is asked to come back long before it gives up by itself.
PATIENCE = 10.0


class Inbox(Protocol):
    """Whatever keeps arrivals durably: the database, or a replicated log in front of it."""

    def accept(self, batch: Sequence[Arrival], /) -> list[Accepted]:
        """The answers in the order of the arrivals, after they are durable. Raises if none of them is."""


class _Waiting(NamedTuple):
    arrival: Arrival
    answer: asyncio.Future[Accepted]


class Acceptor:
    """Accepts the arrivals of one event loop, through one thread that writes."""

    def __init__(
        self, inbox: Inbox, *, accepted: Callable[[], None] = lambda: None, max_waiting_bytes: int = 67_108_864
    ) -> None:
        """`accepted` is called after every commit, to wake whoever works on what came in.

        Bodies of at most `max_waiting_bytes` wait for their commit; past that, `accept` raises `Unavailable`.
        """
        self._inbox = inbox
        self._max_waiting_bytes = max_waiting_bytes
        self._waiting_bytes = 0
        self._accepted = accepted
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        #: In the order in which they began to wait, and since when; those that were answered leave at the next look.
        self._waiting: deque[tuple[asyncio.Future[Accepted], float]] = deque()
        self._thread = threading.Thread(target=self._run, name="acceptor", daemon=True)
        #: Kept, because asking for the running loop costs a system call each time.
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Accept what is waiting, then end."""
        self._queue.put(None)
        self._thread.join()

    def accept(self, arrival: Arrival) -> asyncio.Future[Accepted]:
        """The answer for this arrival, after the commit that holds it; `Unavailable` if there was none in time."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._look_at_waiting()
        if self._waiting_bytes > self._max_waiting_bytes:
            raise Unavailable("Too much is waiting to be stored. Send this again later.")
        self._waiting_bytes += len(arrival.body)
        answer: asyncio.Future[Accepted] = self._loop.create_future()
        self._waiting.append((answer, self._loop.time()))
        self._queue.put(_Waiting(arrival, answer))
        return answer

    def _look_at_waiting(self) -> None:
        """Ask those to come back that have waited too long: one timer for all, since one each would cost more."""
        assert self._loop is not None
        overdue = self._loop.time() - PATIENCE
        while self._waiting and (self._waiting[0][0].done() or self._waiting[0][1] <= overdue):
            _tell(self._waiting.popleft()[0], Unavailable("The database takes too long. Send this again later."))
        self._loop.call_later(PATIENCE / 4, self._look_at_waiting)

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, ending = self._gather(first)
            self._commit(batch)
            if ending:
                return

    def _gather(self, first: _Waiting) -> tuple[list[_Waiting], bool]:
        batch = [first]
        while len(batch) < LARGEST_BATCH:
            try:
                waiting = self._queue.get_nowait()
            except Empty:
                break
            if waiting is None:
                return batch, True
            batch.append(waiting)
        return batch, False

    def _commit(self, batch: list[_Waiting]) -> None:
        # Who was asked to come back meanwhile will: what they sent need not be stored twice.
        live = [waiting for waiting in batch if not waiting.answer.done()]
        try:
            answers = self._accept([waiting.arrival for waiting in live]) if live else []
        except Exception as error:
            refusal = Unavailable("The database cannot store this now. Send it again later.")
            self._tell_all(batch, live, [refusal] * len(live))
            log.error("deliveries could not be stored; their senders are asked to come back", error=str(error))
            return
        self._tell_all(batch, live, answers)
        if answers:
            self._accepted()
            metrics.count_accepted(
                (waiting.arrival.source, waiting.arrival.secret, answer.status)
                for waiting, answer in zip(live, answers, strict=True)
            )

    def _accept(self, arrivals: list[Arrival]) -> list[Accepted]:
        for chance in range(1, TRIES + 1):
            try:
                return self._inbox.accept(arrivals)
            except SQLAlchemyError as error:
                if not is_transient(error) or chance == TRIES:
                    raise
        raise AssertionError("the last try returns or raises")

    def _tell_all(self, batch: list[_Waiting], live: list[_Waiting], answers: Sequence[Accepted | Unavailable]) -> None:
        """Wake the event loop once for the whole batch."""
        assert self._loop is not None
        size = sum(len(waiting.arrival.body) for waiting in batch)
        told = [(waiting.answer, answer) for waiting, answer in zip(live, answers, strict=True)]
        try:
            self._loop.call_soon_threadsafe(self._tell_each, size, told)
        except RuntimeError:
            log.warning("requests ended before their answer; their deliveries are kept", requests=len(live))

    def _tell_each(self, size: int, told: list[tuple[asyncio.Future[Accepted], Accepted | Unavailable]]) -> None:
        self._waiting_bytes -= size
        for waiting, answer in told:
            _tell(waiting, answer)


def _tell(waiting: asyncio.Future[Accepted], answer: Accepted | Unavailable) -> None:
    if waiting.done():
        return
    if isinstance(answer, Unavailable):
        waiting.set_exception(answer)
    else:
        waiting.set_result(answer)
