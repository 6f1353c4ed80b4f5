"""Turns of the event loop, for tests that count on what happens at their end."""

from __future__ import annotations

import asyncio


async def turns() -> None:
    """Let the event loop do what it has to do."""
    for _ in range(20):
        await asyncio.sleep(0)
