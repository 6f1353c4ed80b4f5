"""Group commit: arrivals that wait at the same time share one transaction, and each is answered after its commit.

Arrivals gather in the event loop until the loop is quiet, and then a thread commits them. The next batch gathers during
the commit. So batches grow with the load, and an idle server answers a single request after a single commit.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from math import inf
from queue import SimpleQueue
from typing import Any, NamedTuple, Protocol

import structlog

from receiver.database.errors import is_fault_of_values, retry_transaction
from receiver.errors import Refused, Unavailable
from receiver.inbox.arrival import Accepted, Arrival
from receiver.ingest.unhandled import count_ignored
from receiver.logs.safe_text import told
from receiver.metrics import metrics

log = structlog.get_logger(__name__)

#: The most arrivals in one batch, unless a single body has more events.
LARGEST_BATCH = 256

#: Turns of the event loop without an arrival after which the loop counts as quiet: a received request becomes an
#: arrival within these turns. Without them, the requests just behind a batch would wait for a second commit.
QUIET_TURNS = 3

#: The most seconds for which a batch gathers.
GATHERING = 0.005

#: Tries to store a batch before its senders are asked to retry.
TRIES = 3

#: Seconds that a request waits for its commit before the 503; senders wait longer than this for an answer.
COMMIT_TIMEOUT = 10.0

#: Seconds of a running commit after which new arrivals are refused at once; and the same if the commit before failed.
STALLED, STALLED_AGAIN = 2.0, 0.25

#: Seconds for the last commits when the server stops.
COMMIT_STOP_TIMEOUT = 5.0

#: Seconds between two checks for requests that have waited too long.
TIMEOUT_POLL = 0.5

#: Seconds since the last arrival, and since the last commit, after which the endpoint counts as idle.
IDLE = 0.1


class Store(Protocol):
    """Keeps arrivals durably: the database, or a replicated log in front of it."""

    def accept(self, batch: Sequence[Arrival], /) -> list[Accepted]:
        """Store the arrivals durably, and return answers in the same order. Raises if durability is not certain."""


class PendingReply(Protocol):
    """The pending answer of a request, which becomes an `Accepted` or a `Refused`. A future implements this."""

    def done(self) -> bool:
        """Whether the answer was given, or the request no longer waits for it."""

    def set_result(self, outcome: Any, /) -> None: ...

    def set_exception(self, error: Refused, /) -> None: ...


class _Waiting(NamedTuple):
    arrival: Arrival
    answer: PendingReply
    #: The monotonic time at which the wait began.
    since: float


class GroupCommit:
    """Accepts the arrivals of one event loop, through one thread that writes."""

    def __init__(self, inbox: Store, *, accepted: Callable[[], None] = lambda: None) -> None:
        """`accepted` is called after every commit, to wake the workers."""
        self._inbox = inbox
        self._accepted = accepted
        #: The arrivals of the next batch, and the time at which the current commit began.
        self._gathering: list[_Waiting] = []
        self._committing: list[_Waiting] = []
        self._committing_since = 0.0
        #: The times of the last arrival and of the last commit.
        self._moved_at = -inf
        self._last_failed = False
        #: The time of the last failure to store a batch.
        self._failed_at = -inf
        #: While the loop is being watched for quiet: arrivals at the last poll, and polls without a new one.
        self._watching = False
        self._seen = self._quiet = 0
        self._batches: SimpleQueue[list[_Waiting] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="group-commit", daemon=True)
        #: Kept, because getting the running loop costs a system call each time.
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Accept the waiting arrivals, then end. A hanging commit is abandoned, since its arrivals were not acked."""
        gathered, self._gathering = self._gathering, []
        if gathered:
            self._batches.put(gathered)
        self._batches.put(None)
        self._thread.join(COMMIT_STOP_TIMEOUT)
        if self._thread.is_alive():
            log.warning("a commit hangs; stopping without it")

    def is_busy(self) -> bool:
        """Whether arrivals come in right now, or wait for a commit. Safe to call from any thread."""
        return bool(self._committing) or time.monotonic() - self._moved_at < IDLE

    def trouble(self, *, since: float = -inf) -> str | None:
        """The reason why no delivery can be stored, or None; failures before `since` are ignored. Thread-safe."""
        if self._is_stalled(time.monotonic()):
            return "A commit takes too long: the database does not answer."
        if self._last_failed and self._failed_at > since:
            return "The last attempt to store deliveries failed."
        return None

    # ── in the event loop ─────────────────────────────────────────────────────────────────────────────────────

    def accept(self, arrivals: Sequence[tuple[Arrival, PendingReply]]) -> None:
        """Answer each request after the commit of its arrival, or with `Unavailable` if the commit takes too long."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._end_long_waits()
        now = self._moved_at = time.monotonic()
        waiting = [_Waiting(arrival, answer, now) for arrival, answer in arrivals]
        if self._is_stalled(now):
            _send_away(waiting, _stalled())
            return
        self._gathering += waiting
        self._watch_for_quiet(self._loop)

    def _watch_for_quiet(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._watching and not self._committing and self._gathering:
            self._watching = True
            self._seen = self._quiet = 0
            loop.call_soon(self._poll, loop)

    def _poll(self, loop: asyncio.AbstractEventLoop) -> None:
        """Check once a turn whether the batch is complete."""
        gathered = len(self._gathering)
        self._quiet = 0 if gathered > self._seen else self._quiet + 1
        self._seen = gathered
        complete = self._quiet >= QUIET_TURNS or gathered >= LARGEST_BATCH
        if not complete and gathered and time.monotonic() - self._gathering[0].since < GATHERING:
            loop.call_soon(self._poll, loop)
            return
        self._watching = False
        self._hand_over()

    def _hand_over(self) -> None:
        # Senders that got a 503 meanwhile will send again, so their arrivals need not be stored now.
        live = [waiting for waiting in self._gathering if not waiting.answer.done()]
        taken = _how_many(live)
        self._committing, self._gathering = live[:taken], live[taken:]
        if self._committing:
            self._committing_since = time.monotonic()
            self._batches.put(self._committing)

    def _committed(self, batch: Sequence[_Waiting], answers: Sequence[Accepted | None]) -> None:
        # Before any step that could fail, so that a failure never blocks the next batch.
        self._go_on(failed=False)
        kept = [(waiting, answer) for waiting, answer in zip(batch, answers, strict=True) if answer is not None]
        for waiting, answer in kept:
            if not waiting.answer.done():
                waiting.answer.set_result(answer)
        refused = [waiting for waiting, answer in zip(batch, answers, strict=True) if answer is None]
        _send_away(refused, Unavailable("The database cannot store this now. Send it again later."))
        self._accepted()
        count_answers([(waiting.arrival, answer) for waiting, answer in kept])

    def _failed(self, batch: Sequence[_Waiting]) -> None:
        self._failed_at = time.monotonic()
        self._go_on(failed=True)
        _send_away(batch, Unavailable("The database cannot store this now. Send it again later."))

    def _go_on(self, *, failed: bool) -> None:
        assert self._loop is not None
        self._committing, self._last_failed, self._moved_at = [], failed, time.monotonic()
        self._watch_for_quiet(self._loop)

    def _is_stalled(self, now: float) -> bool:
        limit = STALLED_AGAIN if self._last_failed else STALLED
        return bool(self._committing) and now - self._committing_since > limit

    def _end_long_waits(self) -> None:
        """Answer 503 to requests that have waited too long; one timer for all, because one each would cost more."""
        assert self._loop is not None
        # Rescheduled first, so that an exception below does not end all time limits.
        self._loop.call_later(TIMEOUT_POLL, self._end_long_waits)
        now = time.monotonic()
        if self._is_stalled(now):
            _send_away(self._gathering, _stalled())
            self._gathering = []
        late = [waiting for waiting in self._committing if waiting.since <= now - COMMIT_TIMEOUT]
        _send_away(late, Unavailable("The database takes too long. Send this again later."))

    # ── in the thread that writes ─────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        while (batch := self._batches.get()) is not None:
            try:
                answers = self._accept([waiting.arrival for waiting in batch])
            except BaseException as error:
                # Every error is caught, because without this thread there would be no acks at all.
                log.error("cannot store deliveries; their senders are asked to retry", error=told(error))
                self._tell(self._failed, batch)
            else:
                self._tell(self._committed, batch, answers)

    def _accept(self, arrivals: list[Arrival]) -> Sequence[Accepted | None]:
        """Store the arrivals, and return answers in the same order; None for an arrival that alone cannot be stored."""
        try:
            return self._keep(arrivals)
        except Exception as error:
            if not is_fault_of_values(error):
                raise
            log.warning("the database refuses the content of a delivery; storing one by one", error=told(error))
            answers = self._accept_one_by_one(arrivals)
            if not any(answers):
                raise
            return answers

    def _accept_one_by_one(self, arrivals: list[Arrival]) -> list[Accepted | None]:
        answers: list[Accepted | None] = []
        for arrival in arrivals:
            try:
                answers.append(self._accept_alone(arrival))
            except Exception as error:
                log.error("cannot store a delivery; its sender is asked to retry", error=told(error))
                answers.append(None)
                if not is_fault_of_values(error):
                    # The database itself fails, so the others would only wait for the same error.
                    break
        return answers + [None] * (len(arrivals) - len(answers))

    def _accept_alone(self, arrival: Arrival) -> Accepted:
        """Insert the arrival; if the database refuses its content, insert the body alone, as dead with the reason."""
        try:
            return self._keep([arrival])[0]
        except Exception as error:
            if not is_fault_of_values(error):
                raise
            arrival.keep_body_alone(f"The database refused its content: {told(error)}")
        return self._keep([arrival])[0]

    def _keep(self, arrivals: list[Arrival]) -> list[Accepted]:
        return retry_transaction(lambda: self._inbox.accept(arrivals), again=TRIES - 1, first_wait=0)

    def _tell(self, outcome: Callable[..., None], *told: object) -> None:
        """Wake the event loop once for the whole batch."""
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(outcome, *told)
        except RuntimeError:
            log.warning("requests ended before their answer; their deliveries are kept")


def _how_many(waiting: Sequence[_Waiting]) -> int:
    """The number of arrivals in the next batch: at least one, even if its body has more events than a batch."""
    events = 0
    for number, each in enumerate(waiting[:LARGEST_BATCH]):
        events += 1 + len(each.arrival.others)
        if events > LARGEST_BATCH:
            return number or 1
    return min(len(waiting), LARGEST_BATCH)


def count_answers(answered: Sequence[tuple[Arrival, Accepted]]) -> None:
    """Count committed bodies and all their events in the metrics."""
    metrics.count_accepted(
        (arrival.source, arrival.secret, answer.items[0].status if answer.items else answer.status)
        for arrival, answer in answered
    )
    count_ignored(answered)
    for arrival, answer in answered:
        if arrival.others:
            metrics.count_items((arrival.source, item.status) for item in answer.items[1:])
            count_ignored(zip(arrival.others, answer.items[1:], strict=True))


def _stalled() -> Unavailable:
    return Unavailable("The database does not answer. Send this again later.")


def _send_away(waiting: Sequence[_Waiting], refusal: Unavailable) -> None:
    for each in waiting:
        if not each.answer.done():
            each.answer.set_exception(refusal)
