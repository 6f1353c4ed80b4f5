"""The clock of the simulated systems: at the speed of real time, faster, or moved by a test."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    #: Seconds of this clock that pass in one real second.
    speed: float

    def now(self) -> datetime:
        """Return the current time of this clock, in UTC."""

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds` of this clock."""


class RunningClock:
    """Real time, or `speed` times as fast: with 60, a retry due in 300 s comes after 5 s."""

    def __init__(self, *, speed: float = 1.0, start: datetime | None = None) -> None:
        if speed <= 0:
            raise ValueError("speed must be greater than 0")
        self.speed = speed
        self._start = start or datetime.now(UTC)
        self._began = time.monotonic()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=(time.monotonic() - self._began) * self.speed)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds) / self.speed)


class SteppedClock:
    """A clock that stands still until `advance` moves it, so that a test decides when a retry is due."""

    speed = 1.0

    def __init__(self, start: datetime) -> None:
        self._now = start
        self._order = itertools.count()
        self._sleepers: list[tuple[datetime, int, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._now

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        waker = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + timedelta(seconds=seconds), next(self._order), waker))
        await waker

    @property
    def sleeping(self) -> int:
        """The number of tasks that sleep on this clock."""
        return sum(not waker.done() for _, _, waker in self._sleepers)

    async def advance(self, seconds: float) -> None:
        """Move the time forward, and wake each waiting task at its own time."""
        goal = self._now + timedelta(seconds=seconds)
        while self._sleepers and self._sleepers[0][0] <= goal:
            due, _, waker = heapq.heappop(self._sleepers)
            self._now = max(self._now, due)
            if not waker.done():
                waker.set_result(None)
            await asyncio.sleep(0)
        self._now = goal


async def sleep_until(clock: Clock, moment: datetime) -> None:
    """Wait until the clock shows this moment. Return at once if the moment has passed."""
    seconds = (moment - clock.now()).total_seconds()
    if seconds > 0:
        await clock.sleep(seconds)
