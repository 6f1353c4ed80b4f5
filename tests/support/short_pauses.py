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

from receiver.following import lease
from receiver.ingest import connections, keeping
from receiver.runs import feeder
from receiver.worker import listener, worker

#: The part of each pause that remains. Much shorter ones would keep a core busy with polls.
PART = 1 / 5

#: Pauses of which that part remains: of a worker whose database fails, and of the delivery that it puts aside; before a
#: new connection that listens; between two cursors that a follower stores; between two looks at the open connections.
LONG_PAUSES = (
    (worker, "FIRST_RETRY_PAUSE"),
    (worker, "LONGEST_RETRY_PAUSE"),
    (listener, "RECONNECT_PAUSE"),
    (lease, "SAVE_EVERY"),
    (connections, "CONNECTION_POLL"),
)


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
    """Shorten our own pauses until the end of the block, between polls and after errors.

    A test that counts on the length of a pause sets it itself.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feeder, "RUNS_POLL_INTERVAL", 0.1)
        patch.setattr(listener, "STOP_POLL", 0.05)
        patch.setattr(keeping, "KEEPING_SECONDS", 0.05)
        for module, name in LONG_PAUSES:
            patch.setattr(module, name, getattr(module, name) * PART)
        yield
