"""Reads of the API: runs a bounded number at once, on separate threads and connections, each for a bounded time.

So a client that reads much or slowly delays no ack, worker or health check.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from functools import partial
from time import monotonic, thread_time
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from receiver.api.read_budget import ReadBudget
from receiver.api.turns import Turn, Turns
from receiver.database.errors import explain_lock, is_lock_timeout, is_overdue
from receiver.errors import Unavailable
from receiver.logs.safe_text import told_with_limit
from receiver.metrics import metrics
from receiver.search.windows import beside_acks

Result = TypeVar("Result")

#: The longest wait of a read for its turn in seconds, and the most waiting reads for each running read.
LONGEST_WAIT, WAITING_FOR_EACH = 2.0, 8

#: Seconds that an answer may take beyond the limit of a statement, to open a connection and to format it.
GRACE = 2.0


class Reads:
    """Runs reading functions from an event loop, on a bounded number of threads."""

    def __init__(
        self,
        *,
        at_once: int,
        seconds: float,
        budget: ReadBudget | None = None,
        waiting_cost: float = 0.0,
        threads: Executor | None = None,
    ) -> None:
        """`seconds` is the time limit of a statement, enforced by the database; `budget` bounds all reads together.

        `waiting_cost` are the seconds of CPU time that other processes, such as those of the database, use for each
        second that the thread of a read does not compute. `threads` run the reads, a pool of threads by default.
        """
        self._at_once = at_once
        self._seconds = seconds
        self._waiting_cost = waiting_cost
        self._threads = threads or ThreadPoolExecutor(at_once, thread_name_prefix="reads")
        self._turns = Turns(at_once, budget)

    async def run(self, read: Callable[[], Result], *, client: Hashable = None, kind: Hashable = None) -> Result:
        """Run `read` when its turn comes, which is fair to other clients and kinds of reads, and return its result.

        Raises `Unavailable` if its turn does not come, if no thread can be started, or if it takes too long.
        """
        turn = await self._take_turn(client, kind)
        held, beside = [turn], beside_acks if turn.is_tight else nullcontext
        loop = asyncio.get_running_loop()

        def give_back(*, used: float) -> None:
            # A pool that could not start a thread may run the read later.
            if held:
                self._turns.give_back(held.pop(), used=used)

        def timed() -> Result:
            computed_before, began = thread_time(), monotonic()
            try:
                with beside():
                    return read()
            finally:
                computed = thread_time() - computed_before
                used = computed + self._waiting_cost * max(monotonic() - began - computed, 0)
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(partial(give_back, used=used))

        # The turn ends when the thread is free, even if its request was abandoned before.
        try:
            reading = self._threads.submit(timed)
        except RuntimeError as error:
            give_back(used=0.0)
            said = told_with_limit(error).rstrip(".")
            raise Unavailable(f"No thread can be started for this read. {said}. Ask again later.") from error
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(reading)), self._seconds + GRACE)
        except TimeoutError:
            raise self._too_slow() from None
        except SQLAlchemyError as error:
            if is_overdue(error):
                raise self._overdue(error) from error
            raise

    def close(self) -> None:
        """Begin no further read, without waiting for those in progress."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _take_turn(self, client: Hashable, kind: Hashable) -> Turn:
        # One client may use every place, but gives up its last ones to clients that use fewer.
        if self._turns.waiting >= self._at_once * WAITING_FOR_EACH and not self._turns.make_room(client):
            raise self._too_many()
        try:
            return await self._turns.take((client, kind), seconds=LONGEST_WAIT, client=client)
        except TimeoutError:
            raise self._too_many() from None

    def _too_many(self) -> Unavailable:
        metrics.READS_REFUSED.labels("busy").inc()
        return Unavailable(
            f"Too many reads: {self._at_once} run at once beside webhooks, and others wait. Ask again later."
        )

    def _too_slow(self) -> Unavailable:
        metrics.READS_REFUSED.labels("slow").inc()
        return Unavailable(
            f"The answer takes longer than {self._seconds:g} seconds. Ask for less at once, or try again later."
        )

    def _overdue(self, error: SQLAlchemyError) -> Unavailable:
        if not is_lock_timeout(error):
            return self._too_slow()
        metrics.READS_REFUSED.labels("slow").inc()
        return Unavailable(f"{explain_lock(error)} Then ask again.")
