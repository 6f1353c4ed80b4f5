"""Live: one reader in each process sends hints about changes to all open pages, which then fetch themselves again.

A hint names what changed and has no content, because each page has a session and filters of its own. While the database
does not answer, pages are told that they are not live.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import structlog
from sqlalchemy import Connection, func, select, union_all
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from receiver.api.reads import Reads
from receiver.codec import encode
from receiver.console.headers import BARE_HEADERS
from receiver.database.database import Database
from receiver.errors import Refused, Unavailable
from receiver.findings import record
from receiver.following.followers import FOLLOWERS
from receiver.inbox.refused import REQUESTS
from receiver.inbox.tables import DELIVERIES, State, in_state
from receiver.ingest.closing import ENDLESS
from receiver.mirror.changes import CHANGES
from receiver.runs.actions import ACTIONS
from receiver.runs.tables import RUNS, RunState

log = structlog.get_logger(__name__)

#: Seconds between two reads of the marks, and seconds after which a stream sends a sign of life and checks that its
#: reader is still signed in.
LOOK_INTERVAL, SIGN_OF_LIFE = 1.0, 15.0

#: Seconds without an answer of the database after which pages are told that they are not live. A read that waits for
#: its turn, and a failover to another server, may take two or three.
LONGEST_SILENCE = 5.0

#: Seconds between two counts of a silence. A standstill of the whole process is one count, however long it is.
COUNT_INTERVAL = 0.25

#: Most streams of one person.
MOST_OF_ONE = 2

#: Most events that wait to be sent by one stream.
MOST_WAITING = 8

#: The most pending and the most processing deliveries that belong to a mark.
MOST_MARKED = 100

#: Seconds after which a stream ends; the page then opens another one.
LONGEST_STREAM = 1_800.0


class Marks(NamedTuple):
    """Values that differ after a change, by the names that hints use."""

    deliveries: Any
    changes: Any
    runs: Any
    findings: Any
    followers: Any
    refused: Any

    def told(self) -> str:
        """The marks as a short text, which a page gives back with its request for a stream."""
        return ",".join(hashlib.blake2b(repr(mark).encode(), digest_size=6).hexdigest() for mark in self)

    @classmethod
    def differing(cls, now: str, then: str) -> list[str]:
        """The names of the marks that differ between two such texts; all of them if one text has another form."""
        news, olds = now.split(","), then.split(",")
        if len(news) != len(olds):
            return [*cls._fields]
        return [name for name, new, old in zip(cls._fields, news, olds, strict=True) if new != old]


@dataclass(slots=True)
class Reader:
    """The reader of one stream."""

    #: The person, or the session of a person.
    person: Hashable
    #: The marks that the reader's page knows, as a text; None until the first look if the page gave none.
    seen: str | None


#: The reasons that a page gives while it is not live.
NO_ANSWER, NO_TURN = "the database does not answer", "the database is too slow or too busy"
NO_SESSION = "you are not signed in any more"

#: What a stream sends next; None ends it.
StreamEvent = bytes | None


class LiveStream(StreamingResponse):
    """The response that sends the hints of one stream, and calls `ended` at its end, also after an error."""

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
        #: The events that each stream has not sent yet, with the reader of the stream.
        self._streams: dict[asyncio.Queue[StreamEvent], Reader] = {}
        self._looking: asyncio.Task[None] | None = None
        self._ending = False
        #: When the database answered last, and the seconds for which this process has waited since; the reason why it
        #: has not answered since; whether pages know that.
        self._answered_at = 0.0
        self._waited = 0.0
        self._reason = NO_ANSWER
        self._is_lost = False

    def stream(
        self, person: Hashable, *, is_there: Callable[[], Awaitable[bool]], seen: str | None = None
    ) -> LiveStream:
        """Server-sent events for a person while `is_there` is true. Raises `Unavailable` at the limit of streams.

        `seen` has the marks that were read with the page: the first hint is about changes since then.
        """
        if self._ending:
            raise Unavailable("This process is ending.")
        of_one = sum(reader.person == person for reader in self._streams.values())
        if len(self._streams) >= self._most or of_one >= MOST_OF_ONE:
            raise Unavailable("The limit of live pages is reached: this page asks every 15 seconds instead.")
        events: asyncio.Queue[StreamEvent] = asyncio.Queue(MOST_WAITING)
        if self._looking is None or self._looking.done():
            self._is_lost = False
            self._looking = asyncio.get_running_loop().create_task(self._look())
        if self._is_lost:
            events.put_nowait(self._lost())
        self._streams[events] = Reader(person, seen)
        return LiveStream(self._told(events, is_there), ended=lambda: self._forget(events))

    def end(self) -> None:
        """End all streams, because the process stops."""
        self._ending = True
        self._tell(None)

    def _forget(self, events: asyncio.Queue[StreamEvent]) -> None:
        self._streams.pop(events, None)

    async def _told(
        self, events: asyncio.Queue[StreamEvent], is_there: Callable[[], Awaitable[bool]]
    ) -> AsyncIterator[bytes]:
        began = looked = time.monotonic()
        yield b"retry: 5000\n\n"
        while time.monotonic() - began < LONGEST_STREAM:
            said: StreamEvent = b": still here\n\n"
            with suppress(TimeoutError):
                # An event does not put the check off.
                async with asyncio.timeout(max(looked + SIGN_OF_LIFE - time.monotonic(), 0.0)):
                    said = await events.get()
            if said is None:
                return
            if time.monotonic() - looked >= SIGN_OF_LIFE:
                looked = time.monotonic()
                if not self._is_lost and not await _or_unknown(is_there):
                    yield _event("lost", {"seconds": 0, "reason": NO_SESSION})
                    return
            yield said

    async def _look(self) -> None:
        """Look for changes while there are streams."""
        self._answered_at, self._waited = time.monotonic(), 0.0
        while self._streams:
            try:
                now = await self._marks()
            except Exception:
                # A stream without hints would pretend that nothing changed. Pages without a stream poll by themselves.
                log.exception("cannot send hints about changes to open pages")
                self._tell(None)
                return
            if now is not None:
                self._tell_changes(now.told())
            await asyncio.sleep(LOOK_INTERVAL)
            self._wait_on(LOOK_INTERVAL)

    def _tell_changes(self, now: str) -> None:
        """Tell each stream what changed since its page was read, or since the last look."""
        for events, reader in self._streams.items():
            if reader.seen not in (None, now):
                _put(events, _event("changed", Marks.differing(now, reader.seen)))
            reader.seen = now

    async def _marks(self) -> Marks | None:
        """The present marks; None if the database does not answer, of which the streams are told in time."""
        counting = asyncio.get_running_loop().create_task(self._count_silence())
        try:
            now = await self._reads.run(self._read, client="live")
        except (Refused, SQLAlchemyError) as error:
            self._reason = NO_TURN if isinstance(error, Refused) else NO_ANSWER
            return None
        finally:
            counting.cancel()
        self._answered_at, self._waited, self._reason = time.monotonic(), 0.0, NO_ANSWER
        if self._is_lost:
            self._is_lost = False
            self._tell(_event("live", True))
        return now

    async def _count_silence(self) -> None:
        while True:
            await asyncio.sleep(COUNT_INTERVAL)
            self._wait_on(COUNT_INTERVAL)

    def _wait_on(self, seconds: float) -> None:
        """Count these seconds of waiting, and tell the pages after a long silence that they are not live."""
        self._waited += seconds
        if self._waited >= LONGEST_SILENCE and not self._is_lost:
            self._is_lost = True
            self._tell(self._lost())

    def _lost(self) -> bytes:
        """The event that a page is not live, with the seconds since the last answer, and the reason."""
        return _event("lost", {"seconds": time.monotonic() - self._answered_at, "reason": self._reason})

    def _tell(self, event: StreamEvent) -> None:
        for events in self._streams:
            _put(events, event)

    def _read(self) -> Marks:
        return marks_of(self._database)


def _put(events: asyncio.Queue[StreamEvent], event: StreamEvent) -> None:
    # A reader with a full queue has enough hints to fetch its page again, so one of them may be dropped.
    if events.full():
        events.get_nowait()
    events.put_nowait(event)


def _event(name: str, data: Any) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + encode(data) + b"\n\n"


async def _or_unknown(is_there: Callable[[], Awaitable[bool]]) -> bool:
    try:
        async with asyncio.timeout(LONGEST_SILENCE):
            return await is_there()
    except (TimeoutError, Refused, SQLAlchemyError):
        # While the database does not answer, there are no hints, so the stream may stay.
        return True


def marks_of(database: Database) -> Marks:
    """The present marks, read in a transaction of their own."""
    with database.read() as connection:
        return read_marks(connection)


def read_marks(connection: Connection) -> Marks:
    """Read the present marks. Each statement reads the ends of indexes, or a few rows."""
    delivery, seq, run, action, *refused = connection.execute(_ENDS_OF_IDS).one()
    return Marks(
        # A list also changes when a delivery ends or fails. It then leaves the unfinished ones, or is due later.
        deliveries=(delivery, seq, connection.execute(_UNFINISHED).all()),
        changes=seq,
        runs=(run, action, connection.execute(_RUNS_AT_WORK).all()),
        findings=[(row["id"], row["acknowledged_at"]) for row in record.open_findings(connection)],
        followers=connection.execute(_FOLLOWERS).all(),
        # Kept requests come at one end and expire at the other; an action records those that verify or are dropped.
        refused=refused,
    )


_NUMBERED = (DELIVERIES.c.id, CHANGES.c.seq, RUNS.c.id, ACTIONS.c.id, REQUESTS.c.id)
_ENDS_OF_IDS = select(
    *(select(func.max(each)).scalar_subquery() for each in _NUMBERED),
    select(func.min(REQUESTS.c.id)).scalar_subquery(),
)

#: Selects the first unfinished deliveries, each in the order of the index of its state. While there are more, workers
#: end those that have been due for longest.
_UNFINISHED = union_all(
    *(
        select(
            select(*DELIVERIES.c["id", "due_at"])
            .where(in_state(state))
            .order_by(*DELIVERIES.c[order])
            .limit(MOST_MARKED)
            .subquery()
        )
        for state, order in (
            (State.PENDING, ("suspect", "due_at", "id")),
            (State.PROCESSING, ("source", "entity_kind", "entity_id")),
        )
    )
)

#: Selects the followers without the times at which their processes were seen. Each dead change moves the place of one.
_FOLLOWERS = select(
    *FOLLOWERS.c["name", "seq", "holder", "accepted_at", "trouble", "trouble_since"],
).order_by(FOLLOWERS.c.name)

_RUNS_AT_WORK = (
    select(RUNS.c.id, RUNS.c.state, RUNS.c.done, RUNS.c.total)
    .where(RUNS.c.state.in_([RunState.PLANNING, RunState.RUNNING]))
    .order_by(RUNS.c.id)
)
