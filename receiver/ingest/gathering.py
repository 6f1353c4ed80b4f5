"""Gathering: what waits in the event loop for a commit, in batches, and the bounds of that wait.

A batch is handed over when the loop is quiet. The next one gathers meanwhile, so batches grow with the load, and an
idle server answers a single request after a single commit.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import chain, islice
from math import inf
from typing import Any, Generic, Protocol, TypeVar

import structlog
from msgspec import Struct

from receiver.errors import Refused, Unavailable
from receiver.logs.safe_text import told

log = structlog.get_logger(__name__)

Item = TypeVar("Item")

#: The most seconds for which a batch gathers.
GATHERING = 0.005

#: Seconds that a request waits for its commit before the 503; senders wait longer than this for an answer.
COMMIT_TIMEOUT = 10.0

#: Seconds of a running commit after which new requests are refused at once; and the same if the previous commit failed.
STALLED, STALLED_AGAIN = 2.0, 0.25

#: Seconds after which a commit counts as hanging for the first time. Each further time they double, until a commit
#: succeeds, since a server may keep a session whose client is gone, such as while it waits for its standby.
HANGING = 2 * COMMIT_TIMEOUT

#: Seconds between two checks for requests that have waited too long.
TIMEOUT_POLL = 0.5

#: Seconds since the last arrival, and since the last commit, after which the endpoint counts as idle.
IDLE = 0.1


class PendingReply(Protocol):
    """The pending answer of a request, which becomes an `Accepted` or a `Refused`. A future implements this."""

    def done(self) -> bool:
        """Whether the answer was given, or the request no longer waits for it."""

    def set_result(self, outcome: Any, /) -> None: ...

    def set_exception(self, error: Refused, /) -> None: ...


class Waiting(Struct, Generic[Item], frozen=True):
    """A request that waits for its commit, or the arrival that was made of it."""

    item: Item
    answer: PendingReply
    #: The monotonic time at which the wait began.
    since: float


class Gathering(Generic[Item]):
    """The batches of one event loop: the one that gathers, and those handed over, which end in their order."""

    def __init__(
        self,
        hand: Callable[[list[Waiting[Item]]], None],
        *,
        at_once: int,
        full_at_once: int,
        largest: int,
        quiet_turns: int = 0,
        fill: Callable[[Sequence[Waiting[Item]]], int] = len,
        end_hanging: Callable[[], None] = lambda: None,
    ) -> None:
        """`hand` hands a batch over, which `end` must be told of later. `end_hanging` ends a commit that hangs.

        A batch gathers until `quiet_turns` turns of the event loop have brought no more, up to `largest` items; without
        quiet turns a full batch is handed over within `add`. `fill` returns how many of up to `largest` items the next
        batch takes. `at_once` batches may be handed over, and `full_at_once` while two full ones gather: in an
        overloaded server a turn of the loop takes so long that one batch a turn would be too few.
        """
        self._hand = hand
        self._at_once, self._full_at_once = at_once, full_at_once
        self._largest, self._quiet_turns, self._fill = largest, quiet_turns, fill
        self._gathering: list[Waiting[Item]] = []
        self._handed: deque[list[Waiting[Item]]] = deque()
        #: The time since which the oldest handed batch is the one being committed.
        self._committing_since = 0.0
        self._end_hanging, self._hangs_after = end_hanging, HANGING
        #: The times of the last arrival and of the last commit.
        self._moved_at = -inf
        self._last_failed = False
        #: The time of the last failure to store a batch.
        self._failed_at = -inf
        #: While the loop is being watched for quiet: items at the last poll, and polls without a new one.
        self._watching = False
        self._seen = self._quiet = 0
        #: Whether the time limits are checked; without memory, the event loop may not have taken the next check.
        self._is_timed = False
        #: Kept, because getting the running loop costs a system call each time.
        self.loop: asyncio.AbstractEventLoop | None = None

    # ── from any thread ───────────────────────────────────────────────────────────────────────────────────────

    def is_busy(self) -> bool:
        """Whether requests come in right now, or wait for a commit."""
        return bool(self._handed) or time.monotonic() - self._moved_at < IDLE

    def trouble(self, *, since: float = -inf) -> str | None:
        """The reason why no delivery can be stored, or None; failures before `since` are ignored."""
        if self._is_stalled(time.monotonic()):
            return "A commit takes too long: the database does not answer."
        if self._last_failed and self._failed_at > since:
            return "The last attempt to store deliveries failed."
        return None

    # ── in the event loop ─────────────────────────────────────────────────────────────────────────────────────

    def add(self, items: Iterable[tuple[Item, PendingReply]]) -> None:
        """Let the items wait for a commit, or refuse them with `Unavailable` if commits stall."""
        if self.loop is None:
            self.loop = asyncio.get_running_loop()
        if not self._is_timed:
            self._end_long_waits()
        now = self._moved_at = time.monotonic()
        waiting = [Waiting(item, answer, now) for item, answer in items]
        if self._is_stalled(now):
            send_away(waiting, _stalled())
            return
        self._gathering += waiting
        if not self._quiet_turns:
            self._hand_full_over()
        self._watch_for_quiet(self.loop)

    def end(self, *, failed: bool | None = False) -> list[Waiting[Item]]:
        """Continue after the end of the oldest batch that was handed over, and return it.

        `failed` is None if nothing tried to store the batch, which says nothing about the database.
        """
        assert self.loop is not None
        ended = self._handed.popleft()
        self._moved_at = self._committing_since = time.monotonic()
        if failed is not None:
            self._last_failed = failed
        if failed:
            self._failed_at = self._moved_at
        elif failed is not None:
            self._hangs_after = HANGING
        try:
            self._watch_for_quiet(self.loop)
        except Exception as error:
            # The batch that has ended needs its answers. The check of the time limits watches for the next one.
            _tell_trouble("cannot watch for the next batch; trying again", error)
        return ended

    def hand_rest(self) -> None:
        """Hand over all that gathers, without waiting for quiet."""
        while self._gathering:
            self._hand_next_over()

    def give_up_handed(self, refusal: Unavailable) -> None:
        """Refuse the requests that were handed over, since it will never be known whether they were committed."""
        while self._handed:
            send_away(self.end(failed=True), refusal)

    def give_up(self, refusal: Unavailable) -> None:
        """Refuse everything that waits, since nothing commits it any more."""
        # Taken first, so that the end of a batch begins no watch for the next one, which may fail.
        gathered, self._gathering = self._gathering, []
        self.give_up_handed(refusal)
        send_away(gathered, refusal)

    def _watch_for_quiet(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._watching and self._gathering and self._may_hand_over():
            self._seen = self._quiet = 0
            self._poll_soon(loop)

    def _poll_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        # Set after the call, so that after an error of the loop the next arrival or end tries again.
        self._watching = False
        loop.call_soon(self._poll, loop)
        self._watching = True

    def _poll(self, loop: asyncio.AbstractEventLoop) -> None:
        """Check once a turn whether the batch is complete."""
        gathered = len(self._gathering)
        self._quiet = 0 if gathered > self._seen else self._quiet + 1
        self._seen = gathered
        complete = self._quiet >= self._quiet_turns or self._is_full()
        if not complete and gathered and time.monotonic() - self._gathering[0].since < GATHERING:
            self._poll_soon(loop)
            return
        self._watching = False
        if self._gathering and self._may_hand_over():
            self._hand_next_over()
        self._hand_full_over()
        self._watch_for_quiet(loop)

    def _may_hand_over(self) -> bool:
        is_behind = len(self._gathering) >= 2 * self._largest
        return len(self._handed) < (self._full_at_once if is_behind else self._at_once)

    def _is_full(self) -> bool:
        """Whether more requests would not make the next batch larger."""
        return len(self._gathering) >= self._largest

    def _hand_full_over(self) -> None:
        while self._is_full() and self._may_hand_over():
            self._hand_next_over()

    def _hand_next_over(self) -> None:
        taken = self._fill(self._gathering[: self._largest])
        # Senders that got a 503 meanwhile will send again, so their requests need not be stored now.
        unanswered = [waiting for waiting in self._gathering[:taken] if not waiting.answer.done()]
        # Last, so that an error before it leaves every request in its place.
        self._gathering = self._gathering[taken:]
        if unanswered:
            self._hand_over(unanswered)

    def _hand_over(self, batch: list[Waiting[Item]]) -> None:
        if not self._handed:
            self._committing_since = time.monotonic()
        try:
            self._handed.append(batch)
            self._hand(batch)
        except Exception as error:
            # Nothing would end it, and none after it.
            if self._handed and self._handed[-1] is batch:
                self._handed.pop()
            send_away(batch, not_stored())
            _tell_trouble("cannot hand over webhooks; their senders are asked to retry", error)

    def _is_stalled(self, now: float) -> bool:
        limit = STALLED_AGAIN if self._last_failed else STALLED
        return bool(self._handed) and now - self._committing_since > limit

    def _end_long_waits(self) -> None:
        """Answer 503 to requests that have waited too long; one timer for all, because one each would cost more."""
        assert self.loop is not None
        self._is_timed = False
        # Rescheduled first, so that an exception below does not end all time limits.
        self.loop.call_later(TIMEOUT_POLL, self._end_long_waits)
        self._is_timed = True
        # For a batch whose watch an error of the loop has ended, if nothing else arrives.
        self._watch_for_quiet(self.loop)
        now = time.monotonic()
        if self._is_stalled(now):
            send_away([*chain.from_iterable(islice(self._handed, 1, None)), *self._gathering], _stalled())
            self._gathering = []
        late = [waiting for batch in self._handed for waiting in batch if waiting.since <= now - COMMIT_TIMEOUT]
        send_away(late, Unavailable("The database takes too long. Send this again later."))
        if self._handed and now - self._committing_since > self._hangs_after:
            self._hangs_after *= 2
            log.error("a commit hangs", seconds=round(now - self._committing_since))
            self._end_hanging()


def not_stored() -> Unavailable:
    """The refusal of a request whose arrival the database could not store."""
    return Unavailable("The database cannot store this now. Send it again later.")


def not_answered() -> Unavailable:
    """The refusal of a request whose answer cannot be made, because of an error of this server."""
    return Unavailable("This cannot be answered now, because of an error of this server. Send it again later.")


def _stalled() -> Unavailable:
    return Unavailable("The database does not answer. Send this again later.")


def answer_open(answer: PendingReply, outcome: Any) -> None:
    """Answer the request if it has no answer yet. An error is logged, because other requests wait for theirs."""
    if not answer.done():
        try:
            answer.set_result(outcome)
        except Exception as error:
            refuse_open([answer], not_answered())
            _tell_trouble("cannot answer a webhook; its sender is asked to retry", error)


def send_away(waiting: Sequence[Waiting[Any]], refusal: Refused) -> None:
    """Answer those that still wait with this refusal."""
    refuse_open([each.answer for each in waiting], refusal)


def refuse_open(answers: Iterable[PendingReply], refusal: Refused) -> None:
    """Answer the requests that have no answer yet with this refusal."""
    for answer in answers:
        if not answer.done():
            try:
                answer.set_exception(refusal)
            except Exception as error:
                # Such as without memory: the others need their answers all the same.
                _tell_trouble("cannot refuse a webhook", error)


def _tell_trouble(event: str, error: Exception) -> None:
    """Log an error after which the work goes on. Without memory, the line may fail, too."""
    with suppress(MemoryError):
        log.error(event, error=told(error))
