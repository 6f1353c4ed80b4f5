"""Reads of the API: a bounded number at once, on threads and connections of their own, each for a bounded time.

So nobody who reads, however much and however slowly, keeps acks, the worker or a health check waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from receiver.database.errors import is_overdue
from receiver.errors import Unavailable
from receiver.metrics import metrics

Result = TypeVar("Result")

#: Seconds that a read waits for its turn at most, and how many may wait for each that runs.
LONGEST_WAIT, WAITING_FOR_EACH = 2.0, 8

#: Seconds that an answer may take beyond what its statements may: it is put together, and a connection may be opened.
GRACE = 2.0


class Reads:
    """Runs functions that read, from an event loop, on as many threads as may read at once."""

    def __init__(self, *, at_once: int, seconds: float) -> None:
        """`seconds` is what one statement may take, which their database sees to."""
        self._at_once = at_once
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="reads")
        self._turns = asyncio.Semaphore(at_once)
        self._waiting = 0

    async def run(self, read: Callable[[], Result]) -> Result:
        """What `read` returns. Raises `Unavailable` if its turn does not come, or if it takes too long."""
        await self._wait_for_turn()
        loop = asyncio.get_running_loop()

        def end_turn(_: object) -> None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._turns.release)

        reading = self._threads.submit(read)
        # When the thread is free, and not when nobody waits for it any more.
        reading.add_done_callback(end_turn)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(reading), self._seconds + GRACE)
        except TimeoutError:
            raise self._too_slow() from None
        except SQLAlchemyError as error:
            if is_overdue(error):
                raise self._too_slow() from error
            raise

    def close(self) -> None:
        """Begin nothing more. What runs is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _wait_for_turn(self) -> None:
        if not self._turns.locked():
            await self._turns.acquire()
            return
        if self._waiting >= self._at_once * WAITING_FOR_EACH:
            raise self._too_many()
        self._waiting += 1
        try:
            await asyncio.wait_for(self._turns.acquire(), LONGEST_WAIT)
        except TimeoutError:
            raise self._too_many() from None
        finally:
            self._waiting -= 1

    def _too_many(self) -> Unavailable:
        metrics.READS_REFUSED.labels("busy").inc()
        return Unavailable(f"{self._at_once} questions are being answered already, as many as may be. Ask again later.")

    def _too_slow(self) -> Unavailable:
        metrics.READS_REFUSED.labels("slow").inc()
        return Unavailable(
            f"The answer takes longer than {self._seconds:g} seconds. Ask for less at once, or again later."
        )
