"""Reads of pages: they ask the database in the same turns as the API, so that they slow no ack down."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from starlette.requests import Request

from receiver.api.reads import Reads

Result = TypeVar("Result")


class PageReads:
    """Runs what pages and buttons ask, on threads. Turns are fair to each person and each page."""

    def __init__(self, reads: Reads, *, key_of: Callable[[Request], str]) -> None:
        """`key_of` tells one person from another, and not one forged cookie from the next."""
        self._reads = reads
        self._key_of = key_of

    async def run(self, request: Request, name: str, ask: Callable[[], Result]) -> Result:
        """What it returns. Raises `Unavailable` if its turn does not come, or if it takes too long."""
        return await self._reads.run(ask, key=(self._key_of(request), name))
