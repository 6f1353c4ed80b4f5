"""Live: one reader in each process tells all open pages that something changed, and each page fetches itself again.

A hint names what changed and has no content, because each page has a session and filters of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import suppress
from typing import Any, NamedTuple

import structlog
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from receiver.api.reads import Reads
from receiver.codec import encode
from receiver.console.headers import BARE_HEADERS
from receiver.database.database import Database
from receiver.errors import Refused, Unavailable
from receiver.findings import record
from receiver.inbox.tables import DELIVERIES
from receiver.ingest.closing import ENDLESS
from receiver.mirror.changes import CHANGES
from receiver.runs.actions import ACTIONS
from receiver.runs.tables import RUNS, RunState

log = structlog.get_logger(__name__)

#: Seconds between two reads of the marks, and seconds after which a stream sends a sign of life and checks that its
#: reader is still signed in.
LOOK_INTERVAL, SIGN_OF_LIFE = 1.0, 15.0

#: Most streams of one person.
MOST_OF_ONE = 2

#: Seconds after which a stream ends; the page then opens another one.
LONGEST_STREAM = 1_800.0


class Marks(NamedTuple):
    """Values that differ after a change, by the names that hints use."""

    deliveries: Any
    changes: Any
    runs: Any
    findings: Any


class LiveStream(StreamingResponse):
    """The answer that sends the hints of one stream, and calls `ended` however it ends."""

    def __init__(self, hints: AsyncIterator[bytes], *, ended: Callable[[], None]) -> None:
        super().__init__(hints, 200, BARE_HEADERS, "text/event-stream")
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[ENDLESS] = True
        try:
            await super().__call__(scope, receive, send)
        finally:
            # The generator of the hints cannot do this: if it never started, it does not end either.
            self._ended()


class Live:
    """The streams of one process, in its event loop."""

    def __init__(self, database: Database, reads: Reads, *, most: int) -> None:
        """`most` is the largest number of streams."""
        self._most = most
        self._database = database
        self._reads = reads
        #: The hints that each stream has not sent yet, with the reader of the stream.
        self._streams: dict[asyncio.Queue[list[str] | None], Hashable] = {}
        self._looking: asyncio.Task[None] | None = None
        self._ending = False

    def stream(self, reader: Hashable, *, is_there: Callable[[], Awaitable[bool]]) -> LiveStream:
        """Server-sent events for a person while `is_there` is true. Raises `Unavailable` at the limit of streams."""
        if self._ending:
            raise Unavailable("This process is ending.")
        of_one = list(self._streams.values()).count(reader)
        if len(self._streams) >= self._most or of_one >= MOST_OF_ONE:
            raise Unavailable("The limit of live pages is reached: this page asks every 15 seconds instead.")
        hints: asyncio.Queue[list[str] | None] = asyncio.Queue(8)
        self._streams[hints] = reader
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look())
        return LiveStream(self._told(hints, is_there), ended=lambda: self._forget(hints))

    def end(self) -> None:
        """End all streams, because the process stops."""
        self._ending = True
        self._tell(None)

    def _forget(self, hints: asyncio.Queue[list[str] | None]) -> None:
        self._streams.pop(hints, None)

    async def _told(
        self, hints: asyncio.Queue[list[str] | None], is_there: Callable[[], Awaitable[bool]]
    ) -> AsyncIterator[bytes]:
        began = looked = time.monotonic()
        yield b"retry: 5000\n\n"
        while time.monotonic() - began < LONGEST_STREAM:
            said = b": still here\n\n"
            with suppress(TimeoutError):
                async with asyncio.timeout(SIGN_OF_LIFE):
                    changed = await hints.get()
                if changed is None:
                    return
                said = b"event: changed\ndata: " + encode(changed) + b"\n\n"
            if time.monotonic() - looked >= SIGN_OF_LIFE:
                looked = time.monotonic()
                if not await _or_unknown(is_there):
                    return
            yield said

    async def _look(self) -> None:
        """Look for changes while there are streams."""
        before: Marks | None = None
        while self._streams:
            try:
                now = await self._reads.run(self._read, key="live")
                if before is not None and now != before:
                    self._tell([name for name in Marks._fields if getattr(now, name) != getattr(before, name)])
                before = now
            except (Refused, SQLAlchemyError):
                # While the database is away, pages could not show a change.
                pass
            except Exception:
                # A stream without hints would look as if nothing changed. Pages without a stream ask by themselves.
                log.exception("open pages cannot be told of changes")
                self._tell(None)
                return
            await asyncio.sleep(LOOK_INTERVAL)

    def _tell(self, changed: list[str] | None) -> None:
        for hints in self._streams:
            # A reader with a full queue has enough hints to fetch its page again, so it can do without this one.
            if changed is None and hints.full():
                hints.get_nowait()
            with suppress(asyncio.QueueFull):
                hints.put_nowait(changed)

    def _read(self) -> Marks:
        with self._database.read() as connection:
            return read_marks(connection)


async def _or_unknown(is_there: Callable[[], Awaitable[bool]]) -> bool:
    try:
        return await is_there()
    except (Refused, SQLAlchemyError):
        # While the database is away, there is nothing to tell the reader, so the stream may stay.
        return True


def read_marks(connection: Connection) -> Marks:
    """Read the present marks. Each statement reads the end of an index, or a few rows."""

    def newest(column: Any) -> Any:
        return connection.execute(select(func.max(column))).scalar()

    at_work = RUNS.c.state.in_([RunState.PLANNING, RunState.RUNNING])
    going = select(RUNS.c.id, RUNS.c.state, RUNS.c.done).where(at_work).order_by(RUNS.c.id)
    seq = newest(CHANGES.c.seq)
    return Marks(
        # The list also changes when a delivery is processed, which the change feed shows.
        deliveries=(newest(DELIVERIES.c.id), seq),
        changes=seq,
        runs=(newest(RUNS.c.id), newest(ACTIONS.c.id), connection.execute(going).all()),
        findings=[(row["id"], row["acknowledged_at"]) for row in record.open_findings(connection)],
    )
