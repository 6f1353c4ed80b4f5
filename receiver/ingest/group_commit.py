"""Group commit: requests are admitted, and the arrivals that wait at the same time are stored in one transaction."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from itertools import islice
from math import inf
from queue import Empty, SimpleQueue
from typing import Protocol

import structlog

from receiver.database.errors import is_fault_of_values, is_overdue, retry_transaction
from receiver.dialects.replies import SenderReply
from receiver.errors import Refused
from receiver.inbox.arrival import Accepted, Arrival
from receiver.ingest.admission import Admitted, Request, admit
from receiver.ingest.counting import count_answers
from receiver.ingest.gathering import (
    Gathering,
    PendingReply,
    Waiting,
    answer_open,
    not_answered,
    not_stored,
    refuse_open,
    send_away,
)
from receiver.logs.outages import Outage
from receiver.logs.repeats import Repeats
from receiver.logs.safe_text import name_of, told
from receiver.settings.settings import Settings

log = structlog.get_logger(__name__)

#: For lines that a stranger may cause.
_repeated = Repeats(log)

#: The most arrivals in one batch. With more connections, the event loop answers one half while the other is stored.
LARGEST_BATCH = 128

#: The most full batches that wait for the thread, which stores them while the event loop is busy with other requests.
FULL_BATCHES = 8

#: The most events in one batch, unless a single body has more.
LARGEST_EVENTS = 256

#: Turns of the event loop without an arrival after which the loop counts as quiet: a received request becomes an
#: arrival within these turns. Without them, the requests just behind a batch would wait for a second commit.
QUIET_TURNS = 3

#: Seconds for the last commits when the server stops.
COMMIT_STOP_TIMEOUT = 5.0

#: Seconds without memory until the thread that stores tries again to tell the event loop of a batch.
TELL_PAUSE = 0.1

#: Tries to store a batch before its senders are asked to retry.
TRIES = 3

#: Seconds that a statement waits for a lock of another session, and seconds of such waits after which a batch that is
#: stored one by one ends: before commits count as stalled, since a lock may concern one arrival.
LOCK_TIMEOUT, LOCKS_TIMEOUT = 0.5, 1.0

#: A complete request, and its pending answer.
Submitted = tuple[Request, PendingReply]

#: A function that offers a refused request to be kept.
KeepRefused = Callable[[Request, Refused], None]


def keep_nothing(_request: Request, _refusal: Refused) -> None:
    """Drop a refused request: the default without a keeper."""


def refuse(request: Request, answer: PendingReply, refusal: Refused, *, keep: KeepRefused) -> None:
    """Answer the request with its refusal, and offer it to be kept.

    An error of `keep` is logged, because other requests still wait for their answers.
    """
    refuse_open([answer], refusal)
    try:
        keep(request, refusal)
    except Exception:
        _repeated.exception("cannot keep a refused request", about={"source": request.source.name})


class Store(Protocol):
    """Keeps arrivals durably: the database, or a replicated log in front of it."""

    def accept(self, batch: Sequence[Arrival], /) -> list[Accepted]:
        """Store the arrivals durably, and return answers in the same order. Raises if durability is not certain."""


class GroupCommit:
    """Admits the requests of one event loop, and stores their arrivals through one thread that writes.

    `receiver.server.acceptor_process` does both in another process.
    """

    #: Requests always wait for the end of a turn of the event loop, because the loop itself admits them.
    hand_in_at = inf

    def __init__(
        self,
        inbox: Store,
        *,
        accepted: Callable[[], None] = lambda: None,
        admit: Callable[[Sequence[Request]], list[Admitted]] = admit,
        keep: KeepRefused = keep_nothing,
        prepare: Callable[[Sequence[Arrival]], None] = lambda _: None,
        end_hanging: Callable[[], None] = lambda: None,
    ) -> None:
        """`accepted` is called after every commit, to wake the workers, and `keep` with each refused request.

        `prepare` prepares arrivals in the event loop, before the thread stores them, and `end_hanging` ends the
        connection of the thread, which then stores its batch over another one.
        """
        self._storing = Storing(inbox)
        self._accepted, self._admit, self._keep, self._prepare = accepted, admit, keep, prepare
        self._gathering = Gathering[Arrival](
            self._hand,
            at_once=1,
            full_at_once=FULL_BATCHES,
            largest=LARGEST_BATCH,
            quiet_turns=QUIET_TURNS,
            fill=_how_many,
            end_hanging=end_hanging,
        )
        self._batches: SimpleQueue[list[Waiting[Arrival]] | None] = SimpleQueue()
        #: How batches ended, in their order, for the event loop.
        self._outcomes: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="group-commit", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Accept the waiting arrivals, then end. A hanging commit is abandoned, since its arrivals were not acked."""
        self._gathering.hand_rest()
        self._batches.put(None)
        self._thread.join(COMMIT_STOP_TIMEOUT)
        if self._thread.is_alive():
            log.warning("a commit hangs; stopping without it")

    def is_busy(self) -> bool:
        """Whether arrivals come in right now, or wait for a commit. Safe to call from any thread."""
        return self._gathering.is_busy()

    def trouble(self, *, since: float = -inf) -> str | None:
        """The reason why no delivery can be stored, or None; failures before `since` are ignored. Thread-safe."""
        return self._gathering.trouble(since=since)

    def prepared(self, _settings: Settings) -> AbstractContextManager[Callable[[], None]]:
        """Prepare to adopt new settings; the function puts them in force. Nothing here depends on them."""
        return nullcontext(lambda: None)

    # ── in the event loop ─────────────────────────────────────────────────────────────────────────────────────

    def take(self, submitted: Sequence[Submitted]) -> None:
        """Admit the requests, answer those that are refused, and accept the others."""
        admitted = self._admit([request for request, _ in submitted])
        arrivals: list[tuple[Arrival, PendingReply]] = []
        for (request, answer), result in zip(submitted, admitted, strict=True):
            if isinstance(result, Arrival):
                arrivals.append((result, answer))
            elif isinstance(result, SenderReply):
                answer_open(answer, result)
            else:
                refuse(request, answer, result, keep=self._keep)
        self.accept(arrivals)

    def accept(self, arrivals: Sequence[tuple[Arrival, PendingReply]]) -> None:
        """Answer each request after the commit of its arrival, or with `Unavailable` if the commit takes too long."""
        self._prepare([arrival for arrival, _ in arrivals])
        self._gathering.add(arrivals)

    def _hand(self, batch: list[Waiting[Arrival]]) -> None:
        self._batches.put(batch)

    def _hear(self) -> None:
        try:
            outcome = self._outcomes.get_nowait()
        except Empty:
            return
        outcome()

    def _committed(self, batch: Sequence[Waiting[Arrival]], answers: Sequence[Accepted | None]) -> None:
        # Before any step that could fail, so that a failure never blocks the next batch.
        self._gathering.end()
        try:
            kept = _answer_stored(batch, answers)
        except Exception:
            # Such as without memory: nothing else would answer these requests.
            send_away(batch, not_answered())
            raise
        self._accepted()
        count_answers(kept)

    def _skipped(self) -> None:
        self._gathering.end(failed=None)

    def _failed(self, batch: Sequence[Waiting[Arrival]]) -> None:
        self._gathering.end(failed=True)
        send_away(batch, not_stored())

    # ── in the thread that writes ─────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        while (batch := self._batches.get()) is not None:
            try:
                outcome = self._outcome(batch)
            except BaseException as error:
                # Every error is caught, because without this thread there would be no acks at all. Without memory, the
                # line may fail, too.
                self._tell(partial(self._failed, batch))
                with suppress(MemoryError):
                    self._storing.outage.failed(name_of(error), error=told(error))
            else:
                self._tell(outcome)

    def _outcome(self, batch: Sequence[Waiting[Arrival]]) -> Callable[[], None]:
        """Store the batch; return what the event loop is to do then. Raises the database's error."""
        if all(waiting.answer.done() for waiting in batch):
            # Commits stalled, so these were refused meanwhile, and their senders will send them again.
            return self._skipped
        return partial(self._committed, batch, self._storing.store([waiting.item for waiting in batch]))

    def _tell(self, outcome: Callable[[], None]) -> None:
        """Wake the event loop once for the whole batch.

        Without memory it tries again: a batch whose end the loop never learns of would stall all commits for good. The
        queue keeps the loop from taking an end twice if it was woken by a call that failed.
        """
        loop = self._gathering.loop
        assert loop is not None
        is_queued = False
        while True:
            try:
                if not is_queued:
                    self._outcomes.put(outcome)
                    is_queued = True
                loop.call_soon_threadsafe(self._hear)
                return
            except MemoryError:
                time.sleep(TELL_PAUSE)
            except RuntimeError:
                log.warning("requests ended before their answer; their deliveries are kept")
                return


def _answer_stored(
    batch: Sequence[Waiting[Arrival]], answers: Sequence[Accepted | None]
) -> list[tuple[Arrival, Accepted]]:
    """Answer the requests of a batch, and return the arrivals that are stored."""
    kept: list[tuple[Arrival, Accepted]] = []
    refused: list[Waiting[Arrival]] = []
    for waiting, answer in zip(batch, answers, strict=True):
        if answer is None:
            refused.append(waiting)
        else:
            kept.append((waiting.item, answer))
            answer_open(waiting.answer, answer)
    send_away(refused, not_stored())
    return kept


class Storing:
    """Stores batches, so that an arrival that the database refuses, or that waits for a lock, hinders no other one."""

    def __init__(self, inbox: Store) -> None:
        self._inbox = inbox
        fails = "cannot store deliveries; their senders are asked to retry"
        self.outage = Outage(log, fails, "the database stores deliveries again")

    def store(self, arrivals: list[Arrival]) -> Sequence[Accepted | None]:
        """Store the arrivals, and return answers in the same order; None for an arrival that alone cannot be stored.

        Raises the database's error if none of them can be stored, unless other sessions hold locks.
        """
        try:
            return self._keep(arrivals)
        except Exception as error:
            if not _is_of_some(error):
                raise
            log.warning("a delivery keeps its batch from being stored; storing one by one", error=told(error))
            answers = self._one_by_one(arrivals)
            if not any(answers) and not is_overdue(error):
                raise
            return answers

    def _one_by_one(self, arrivals: list[Arrival]) -> list[Accepted | None]:
        answers: list[Accepted | None] = []
        waited = 0.0
        for arrival in arrivals:
            began = time.monotonic()
            try:
                answers.append(self._alone(arrival))
            except Exception as error:
                log.error("cannot store a delivery; its sender is asked to retry", error=told(error))
                answers.append(None)
                waited += time.monotonic() - began if is_overdue(error) else 0.0
                if not _is_of_some(error) or waited >= LOCKS_TIMEOUT:
                    # The database itself fails, or a table is locked, so the others would only wait for the same error.
                    break
        return answers + [None] * (len(arrivals) - len(answers))

    def _alone(self, arrival: Arrival) -> Accepted:
        """Insert the arrival; if the database refuses its content, insert the body alone, as dead with the reason."""
        try:
            return self._keep([arrival])[0]
        except Exception as error:
            if not is_fault_of_values(error):
                raise
            arrival.keep_body_alone(f"The database refused its content: {told(error)}")
        return self._keep([arrival])[0]

    def _keep(self, arrivals: list[Arrival]) -> list[Accepted]:
        kept = retry_transaction(lambda: self._inbox.accept(arrivals), again=TRIES - 1, first_wait=0)
        self.outage.worked()
        return kept


def _is_of_some(error: Exception) -> bool:
    """Whether the error concerns some arrivals of a batch: their values, or locks that others hold."""
    return is_fault_of_values(error) or is_overdue(error)


def _how_many(waiting: Sequence[Waiting[Arrival]]) -> int:
    return how_many(each.item for each in waiting)


def how_many(arrivals: Iterable[Arrival]) -> int:
    """The number of arrivals in the next batch: at least one, even if its body has more events than a batch."""
    events = number = 0
    for arrival in islice(arrivals, LARGEST_BATCH):
        events += 1 + len(arrival.others)
        if events > LARGEST_EVENTS:
            return number or 1
        number += 1
    return number
