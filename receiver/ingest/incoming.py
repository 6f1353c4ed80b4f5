"""Incoming: bounds the memory of incomplete heads and bodies, and the time and rate of each body.

They have a separate budget, because they are not verified yet. When the budget is used up, the largest and slowest are
ended: refusing new requests would let a stranger who never finishes shut out all senders (docs/decisions/0017).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import ParamSpec

import structlog

from receiver.errors import Limited, Refused
from receiver.logs.repeats import Repeats
from receiver.metrics import metrics
from receiver.settings.limits import Limits

log = Repeats(structlog.get_logger(__name__))

#: Seconds after which a body's rate is checked.
FIRST_LOOK = 5.0

#: Bytes that extend `body_timeout` by a second, so that a body of any permitted size can arrive at this rate.
STEADY_RATE = 8_192

#: Times within `body_timeout` that the bodies are polled, and the most seconds between two polls.
BODY_POLLS_PER_TIMEOUT = 4
BODY_POLL = 1.0

#: The part of the budget that is freed at once, so that freeing is rare.
FREED_AT_ONCE = 1 / 16

#: The part of the budget that one piece counts at most, so that a large body or answer is not ended when it is alone.
MOST_OF_A_PIECE = 1 / 2

P = ParamSpec("P")

#: An ended piece counts as free at once, and is removed when its owner leaves.
End = Callable[[Refused], None]


class Piece:
    """A part of a request that holds memory, such as a head or a body that is not complete."""

    __slots__ = ("_incoming", "began", "counted", "end", "ended", "grew", "head", "size")

    def __init__(self, incoming: Incoming, end: End, head: int = 0) -> None:
        """`end` refuses the sender. `head` is the memory of the complete head of an incomplete body, in bytes."""
        self._incoming = incoming
        self.end = end
        self.head = head
        self.began = self.grew = incoming.now()
        self.size = 0
        #: The bytes of the budget that the piece takes.
        self.counted = 0
        self.ended = False
        incoming.add(self)
        if head:
            incoming.hold(self)

    def grow(self, size: int) -> None:
        """Count further bytes, which may end other pieces or this one. An ended piece counts nothing any more."""
        if not self.ended:
            self.size += size
            self.grew = self._incoming.now()
            self._incoming.hold(self)

    def resize(self, size: int) -> None:
        """Count `size` bytes instead of those before."""
        self.grow(size - self.size)

    def forgive(self, seconds: float, now: float) -> None:
        """Leave out `seconds` that ended by `now`, in which nothing could be received."""
        self.began, self.grew = min(self.began + seconds, now), min(self.grew + seconds, now)

    def leave(self) -> None:
        """Remove a piece that is complete or abandoned."""
        self._incoming.remove(self)

    def weight(self, now: float) -> float:
        """The sort key of ending: large and old pieces are ended first, small bodies of honest senders last."""
        return (self.head + self.size) * (1.0 + now - self.began)


class IncomingBody:
    """A body that a task reads:

    with incoming.body() as body:
        body.grow(len(await something))
    """

    __slots__ = ("_head", "_incoming", "_piece", "_reason", "_task")

    def __init__(self, incoming: Incoming, head: int) -> None:
        self._incoming = incoming
        self._head = head
        self._reason: Refused | None = None

    def __enter__(self) -> IncomingBody:
        task = asyncio.current_task(self._incoming.loop)
        assert task is not None, "only a task can wait"
        self._task = task
        self._piece = self._incoming.timed(Piece(self._incoming, self._end, self._head))
        if self._reason is not None:
            # Its head found no room.
            self._piece.leave()
            raise self._reason
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._piece.leave()
        if self._reason is not None and kind is asyncio.CancelledError and self._task.uncancel() == 0:
            raise self._reason from error

    @property
    def size(self) -> int:
        return self._piece.size

    def grow(self, size: int) -> None:
        self._piece.grow(size)
        if self._reason is not None:
            raise self._reason

    def _end(self, reason: Refused) -> None:
        self._reason = reason
        # If the running task itself has exceeded the budget, `grow` raises: a cancellation would hit its next wait.
        if asyncio.current_task(self._incoming.loop) is not self._task:
            self._task.cancel()


class Incoming:
    """The incomplete heads and bodies of one process, in one event loop."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._pieces: dict[Piece, None] = {}
        #: Bodies, which have time limits here; heads are timed by their connection.
        self._bodies: dict[Piece, None] = {}
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        #: When the timer should end.
        self._due = 0.0
        #: Kept, because getting the running loop costs a system call each time.
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def bytes(self) -> int:
        return self._bytes

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    def now(self) -> float:
        return self.loop.time()

    def body(self, head: int = 0) -> IncomingBody:
        """Make a body, to be entered by the reading task. Raises `Limited` if a limit ends it.

        `head` is the memory of its head in bytes, which counts with it.
        """
        return IncomingBody(self, head)

    def head(self, end: End) -> Piece:
        return Piece(self, end)

    def timed(self, piece: Piece) -> Piece:
        self._bodies[piece] = None
        if self._timer is None:
            self._poll_later()
        return piece

    def add(self, piece: Piece) -> None:
        self._pieces[piece] = None

    def remove(self, piece: Piece) -> None:
        if piece in self._pieces:
            del self._pieces[piece]
            self._bodies.pop(piece, None)
            self._count(piece, 0)

    def hold(self, piece: Piece) -> None:
        """Count a piece as large as it is, or with the most that one may count."""
        self._count(piece, min(piece.head + piece.size, int(self._limits.max_incomplete_bytes * MOST_OF_A_PIECE)))
        if self._bytes > self._limits.max_incomplete_bytes:
            self._make_room()

    def _make_room(self) -> None:
        now = self.now()
        goal = self._limits.max_incomplete_bytes * (1 - FREED_AT_ONCE)
        for piece in sorted(self._pieces, key=lambda piece: piece.weight(now), reverse=True):
            if self._bytes <= goal:
                break
            if not piece.ended:
                why = "Too much is arriving at once, and this was not complete. Send it again later."
                guarded(self._end, piece, "max_incomplete_bytes", why)

    def _poll(self) -> None:
        now = self.now()
        self._timer = None
        if (late := now - self._due) > BODY_POLL:
            # This process or its machine stood still: what arrived meanwhile is read only after this.
            for piece in self._bodies:
                piece.forgive(late, now)
        if self._bodies:
            # Before the work: without its timer, no body would ever be ended again.
            self._poll_later()
        for piece in list(self._bodies):
            if not piece.ended:
                guarded(self._end_late, piece, now)

    def _end_late(self, piece: Piece, now: float) -> None:
        age, timeout = now - piece.began, self._limits.body_timeout
        if now - piece.grew >= timeout or age >= timeout + piece.size / STEADY_RATE:
            why = "The body took too long to arrive. Send it faster, or raise body_timeout."
            self._end(piece, "body_timeout", why)
        elif age >= FIRST_LOOK and piece.size < age * self._limits.min_body_rate:
            self._end(piece, "min_body_rate", "The body arrives too slowly. Send it faster, or lower min_body_rate.")

    def _poll_later(self) -> None:
        delay = min(self._limits.body_timeout / BODY_POLLS_PER_TIMEOUT, BODY_POLL)
        self._due = self.now() + delay
        self._timer = self.loop.call_later(delay, self._poll)

    def _end(self, piece: Piece, limit: str, why: str) -> None:
        piece.ended = True
        self._count(piece, 0)
        piece.end(Limited(why))
        limited(limit)

    def _count(self, piece: Piece, size: int) -> None:
        if size != piece.counted:
            self._bytes += size - piece.counted
            piece.counted = size
            metrics.INCOMPLETE_BYTES.set(self._bytes)


def guarded(turn: Callable[P, None], *args: P.args, **named: P.kwargs) -> None:
    """Run one step of several: an error is logged, and the other steps still run."""
    try:
        turn(*args, **named)
    except Exception:
        # If memory or threads are short, even a log line may fail.
        with suppress(Exception):
            log.exception("cannot end a request or a connection at a limit", about={})


def limited(limit: str, *, times: int = 1) -> None:
    """Count a request or connection that a limit ended, by the name of the setting, and log it at a bounded rate."""
    metrics.LIMITED.labels(limit).inc(times)
    log.warning("a limit ended a request or a connection", about={"limit": limit})
