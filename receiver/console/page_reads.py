"""Reads of pages: they take the same turns at the database as the API, so that they slow no ack down."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from starlette.requests import Request

from receiver.api.reads import Reads
from receiver.console.guests import NOT_SIGNED_IN
from receiver.errors import NotAuthorized

Result = TypeVar("Result")


class PageReads:
    """Runs the questions of pages and buttons on threads. Turns are shared fairly among people and pages.

    A stranger gets no turn: without a signature of ours in the cookie, the database need not be asked.
    """

    def __init__(self, reads: Reads, *, key_of: Callable[[Request], str]) -> None:
        """`key_of` gives each person a key, and all strangers the empty one. It does not read the database."""
        self._reads = reads
        self._key_of = key_of

    async def run(
        self, request: Request, name: str, ask: Callable[[], Result], *, for_strangers: bool = False
    ) -> Result:
        """Return what `ask` returns. Strangers are refused with `NotAuthorized`, unless it is `for_strangers`.

        Raises `Unavailable` if its turn does not come, or if it takes too long.
        """
        client = self._key_of(request)
        if not client and not for_strangers:
            raise NotAuthorized(NOT_SIGNED_IN)
        return await self._reads.run(ask, client=client, kind=name)
