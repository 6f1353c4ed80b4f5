"""Reads of pages: they ask the database in the same turns as the API, so that they slow no ack down."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from starlette.requests import Request

from receiver.api.reads import Reads

Result = TypeVar("Result")


class PageReads:
    """Runs what pages and buttons ask, on threads. Turns are fair to each person and each page."""

    def __init__(self, reads: Reads, *, cookie: str) -> None:
        """`cookie` is the name of the cookie that tells one person from another."""
        self._reads = reads
        self._cookie = cookie

    async def run(self, request: Request, name: str, ask: Callable[[], Result]) -> Result:
        """What it returns. Raises `Unavailable` if its turn does not come, or if it takes too long."""
        return await self._reads.run(ask, key=(request.cookies.get(self._cookie, "")[:64], name))
