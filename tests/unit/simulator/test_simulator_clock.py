"""The simulator's clocks: one runs faster than real time, and a test steps the other."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from simulator.clock import RunningClock, SteppedClock

START = datetime(2026, 3, 8, 10, tzinfo=UTC)


def test_an_accelerated_clock_shows_more_time_than_passed():
    clock = RunningClock(speed=1_000_000, start=START)
    while clock.now() == START:
        pass
    assert clock.now() > START


def test_a_clock_cannot_run_backwards():
    with pytest.raises(ValueError, match="greater than 0"):
        RunningClock(speed=-1)


def test_a_stepped_clock_wakes_sleepers_at_their_own_moments_in_order():
    async def scene():
        clock = SteppedClock(START)
        woken = []

        async def sleeper(seconds):
            await clock.sleep(seconds)
            woken.append((seconds, clock.now() - START))

        tasks = [asyncio.create_task(sleeper(seconds)) for seconds in (60, 10, 300)]
        await asyncio.sleep(0)
        await clock.advance(70)
        await asyncio.sleep(0)
        for task in tasks[:2]:
            await task
        assert clock.sleeping == 1
        tasks[2].cancel()
        return woken, clock.now()

    woken, now = asyncio.run(scene())
    assert [seconds for seconds, _ in woken] == [10, 60]
    assert now == START + timedelta(seconds=70)
