"""Shorter pauses between polls, for which many tests would mostly wait: ours, and those of uvicorn.

uvicorn polls for its own end, and for that of its connections, ten times a second. Stopping a server takes two or three
of these pauses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
import uvicorn.server

from receiver.ingest import keeping
from receiver.runs import feeder
from receiver.worker import listener

#: The part of each pause that remains. Much shorter ones would keep a core busy with polls.
PART = 1 / 5


class _HurryingAsyncio(ModuleType):
    """The module `asyncio` as uvicorn's server sees it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    @staticmethod
    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds * PART)


def shorten_pauses_of_uvicorn() -> None:
    """Shorten the pauses of all servers in this process."""
    uvicorn.server.asyncio = _HurryingAsyncio("asyncio")  # type: ignore[assignment]


@contextmanager
def shorter_pauses() -> Iterator[None]:
    """Shorten our own pauses until the end of the block: between polls for runs and for the end, and of the keeper."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feeder, "RUNS_POLL_INTERVAL", 0.1)
        patch.setattr(listener, "STOP_POLL", 0.05)
        patch.setattr(keeping, "KEEPING_SECONDS", 0.05)
        yield
