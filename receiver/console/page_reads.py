"""Reads of pages: they take the same turns at the database as the API, so that they slow no ack down."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from starlette.requests import Request

from receiver.api.reads import Reads

Result = TypeVar("Result")


class PageReads:
    """Runs the questions of pages and buttons on threads. Turns are shared fairly among people and pages."""

    def __init__(self, reads: Reads, *, key_of: Callable[[Request], str]) -> None:
        """`key_of` gives each person a key. All forged cookies must share one key."""
        self._reads = reads
        self._key_of = key_of

    async def run(self, request: Request, name: str, ask: Callable[[], Result]) -> Result:
        """Return what `ask` returns. Raises `Unavailable` if its turn does not come, or if it takes too long."""
        return await self._reads.run(ask, key=(self._key_of(request), name))
