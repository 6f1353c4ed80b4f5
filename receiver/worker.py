"""The worker: what was accepted becomes the mirror.

`work` is one round, in the order in which data flows. Everything that a batch changes (mirror rows, change feed,
delivery states) commits in the one transaction of the settlement; whatever happens before it leaves no trace but the
attempt that was counted at the claim.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError

from receiver import liveness
from receiver.attempts import Judge, Judged, Task
from receiver.claims import Claimed
from receiver.envelope import Envelope, Event
from receiver.errors import Discard, Unreadable
from receiver.handling import Handling
from receiver.hydration import Hydration, ready
from receiver.inbox import Inbox
from receiver.liveness import Pulse
from receiver.retention import PAGES, Retention
from receiver.retries import RetrySchedule
from receiver.settlement import Settlement
from receiver.sources import Source
from receiver.telling import told, told_with_type, traced
from receiver.trouble import is_trouble_of_ours
from receiver.versions import AHEAD

log = structlog.get_logger(__name__)

#: Seconds between looks for work that nobody announced: retries that came due, another process's accepts.
POLL_SECONDS = 0.2

#: Bytes of bodies that are parsed at once, one body at least: its data may be a hundred times as large.
PORTION_BYTES = 1024 * 1024

#: Between two batches of what has expired, and between two looks for it.
PRUNE_PAUSE, PRUNE_INTERVAL = timedelta(seconds=1), timedelta(hours=1)

#: Deliveries settled together at most while requests come in, on SQLite (docs/decisions/0014).
BESIDE_REQUESTS = 25

#: Seconds to wait after trouble with the database; doubled up to the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0


class Worker:
    """Drains the inbox into the mirror, batch after batch. One thread runs it; any number of workers share an inbox."""

    def __init__(
        self,
        inbox: Inbox,
        sources: Mapping[str, Source],
        *,
        batch_size: int = 200,
        max_batch_bytes: int = 16 * 1024 * 1024,
        lease: timedelta = timedelta(seconds=60),
        retries: RetrySchedule | None = None,
        retention: Retention | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        luck: Callable[[], float] = random.random,
        requests_wait: Callable[[], bool] = lambda: False,
    ) -> None:
        """`requests_wait` says whether this process gets requests right now, whose answers wait for the database."""
        self.name = liveness.new_name()
        #: Shows whoever watches this worker that it moves.
        self.pulse = Pulse()
        self._inbox = inbox
        self._database = inbox.database
        self._sources = sources
        self._batch_size = batch_size
        self._max_batch_bytes = max_batch_bytes
        #: Deliveries claimed at once: fewer for a while after trouble, which one of them may be what it is.
        self._limit = batch_size
        #: The batch at hand.
        self._batch: list[Task] = []
        self._requests_wait = requests_wait
        self.lease = lease
        self._retries = retries or RetrySchedule()
        self._judge = Judge(self._retries, clock=clock, luck=luck)
        self._retention = retention
        self._prune_at = clock()
        self._clock = clock
        self._luck = luck
        #: As if the last turn had been the suspects': a worker that follows one that hung begins with the others.
        self._suspects_turn = True
        self._hydration = Hydration(sources, self.pulse, self._judged, lambda: self._stopping.is_set())
        self._handling = Handling(self._database, self._judged, self._keep_lease, lambda: self._stopping.is_set())
        self._settlement = Settlement(
            inbox,
            self.name,
            self._judge,
            self._handling,
            clock=clock,
            luck=luck,
            wait=lambda seconds: self._stopping.wait(seconds),
        )
        self._extended_at = clock()
        self._looked_for_lost_at: datetime | None = None
        self._stopping = threading.Event()
        self._wake = threading.Event()

    # ── the round ─────────────────────────────────────────────────────────────────────────────────────────────

    def work(self) -> int:
        """Bring one batch of due deliveries to its end. Returns how many were claimed."""
        self._batch = []
        self._hydration.begin_batch()
        self._batch = [Task(delivery) for delivery in self._claim()]
        for portion in _portions(self._batch):
            for task in portion:
                self._read(task)
            while portion:
                self._hydrate(portion)
                done = self._handling.handle(self._turn(ready(portion)))
                self._settlement.settle(done)
                portion = portion[len(done) :]
        self._limit = min(self._limit * 2, self._batch_size)
        return len(self._batch)

    def run(self) -> None:
        """Work until `stop`. Trouble with the database is waited out; what was claimed meanwhile is given back."""
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            try:
                self._take_over_what_others_left()
                if not self.work():
                    self._wake.wait(POLL_SECONDS)
                    self._wake.clear()
                self._prune()
                pause = FIRST_PAUSE
            except Exception as error:
                # Whatever it is, a worker that ended would leave the inbox to fill up in silence.
                self._tell_of_trouble(error, pause)
                self._stopping.wait(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                self._make_way(error)
        self._give_back()
        self.close()

    def wake(self) -> None:
        """Say that there is work. Safe to call from any thread."""
        self._wake.set()

    def stop(self) -> None:
        """End after the delivery at hand. Safe to call from any thread."""
        self._stopping.set()
        self._wake.set()

    def give_up(self) -> None:
        """Count as dead from now on, although the thread is there: others take over what this worker holds.

        If the thread comes back after all, it settles only what it still holds, and ends. Safe from any thread.
        """
        liveness.strike_off(self.name)
        self.stop()

    def close(self) -> None:
        """Let go of what is held outside the database."""
        liveness.strike_off(self.name)
        self._hydration.close()

    # ── claim ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _claim(self) -> list[Claimed]:
        now = self._extended_at = self._clock()
        known = self._sources.keys()
        due = self._inbox.due(known, now=now)
        # A delivery whose last attempt never ended may be what ended its worker: alone, it takes nobody with it.
        self._suspects_turn = due.suspect and not (due.ordinary and self._suspects_turn)
        if not due.ordinary and not due.suspect:
            return []
        return self._inbox.claim(
            self.name,
            known,
            limit=1 if self._suspects_turn else self._limit,
            max_bytes=self._max_batch_bytes,
            now=now,
            lease=self.lease,
            suspect=self._suspects_turn,
        )

    def _take_over_what_others_left(self) -> None:
        now = self._clock()
        if self._looked_for_lost_at is not None and now - self._looked_for_lost_at < self.lease / 10:
            return
        self._looked_for_lost_at = now
        gone = liveness.gone(self._inbox.workers())
        taken = self._inbox.take_over(now=now, gone=gone, max_attempts=self._retries.attempts, pause=self.lease / 4)
        if taken:
            log.warning("took over deliveries that another worker left behind", deliveries=taken)

    def _prune(self) -> None:
        """One small batch of what has expired, now and then: retention never holds the work up for long."""
        now = self._clock()
        if self._retention is None or now < self._prune_at:
            return
        dropped = self._retention.prune(self._database, now=now)
        more = dropped or self._database.shrink(PAGES)
        self._prune_at = now + (PRUNE_PAUSE if more else PRUNE_INTERVAL)

    def _give_back(self, *, put_aside: timedelta | None = None) -> None:
        try:
            self._inbox.release(self.name, aside_until=None if put_aside is None else self._clock() + put_aside)
        except SQLAlchemyError as error:
            log.error("what was claimed could not be given back; its lease will end", error=told(error))

    def _keep_lease(self) -> None:
        """Of the whole batch, whichever part of it is at hand."""
        now = self._clock()
        if now - self._extended_at > self.lease / 3:
            self._inbox.extend(self.name, [task.delivery.id for task in self._batch], until=now + self.lease)
            self._extended_at = now

    # ── trouble ───────────────────────────────────────────────────────────────────────────────────────────────

    def _tell_of_trouble(self, error: Exception, pause: float) -> None:
        # Where the database is not what it is, somebody has to see where it came from.
        where = {} if isinstance(error, SQLAlchemyError) else {"exception": traced(error)}
        log.error("the worker is in trouble; trying again", seconds=pause, error=told(error), **where)

    def _make_way(self, error: Exception) -> None:
        """See to it that a delivery that is what the trouble is does not keep the others from their turn.

        What failed in company is tried again in smaller steps. What failed alone has had its attempt; if the database
        is what fails, the attempt does not count, and it waits a little with the suspects.
        """
        alone = len(self._batch) == 1
        self._limit = 1
        if alone and not is_trouble_of_ours(error):
            self._fail_alone(Task(self._batch[0].delivery), f"The worker failed: {told_with_type(error)}")
        self._give_back(put_aside=timedelta(seconds=LONGEST_PAUSE) if alone else None)

    def _fail_alone(self, task: Task, reason: str) -> None:
        task.ending = self._judge.failure(task, reason)
        try:
            self._settlement.settle_together([task])
        except Exception as error:
            log.error("a failed attempt could not be recorded", delivery=task.delivery.id, error=told(error))

    # ── read ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _read(self, task: Task) -> None:
        """Parse the body anew: what was unreadable yesterday may be readable with today's code."""
        delivery = task.delivery
        with self._judged(task, "the dialect's envelope"):
            if delivery.plain is None:
                raise Unreadable("The body has expired, so there is nothing to process.")
            source = self._sources[delivery.source]
            envelope = task.envelope = source.read(delivery.plain)
            task.handler = source.dialect.handler_for(envelope.event_type)
            if task.handler is None:
                raise Discard(f"No handler takes {envelope.event_type}.")
            _warn_of_the_future(delivery, envelope)
            kind, entity_id = envelope.entity or ("", "")
            task.event = Event(
                source=delivery.source,
                event_type=envelope.event_type,
                entity_kind=kind,
                entity_id=entity_id,
                occurred_at=envelope.occurred_at,
                data=task.handler.parse(envelope.data),
                delivery_id=str(delivery.id),
                attempt=delivery.attempt,
                received_at=delivery.received_at,
                waited=self._clock() - delivery.received_at,
                is_last=self._retries.exhausted(delivery.attempt),
            )

    # ── hydrate ───────────────────────────────────────────────────────────────────────────────────────────────

    def _hydrate(self, tasks: Sequence[Task]) -> None:
        """Fetch what thin events only name: I/O, so outside every transaction and several at once."""
        for _ in self._hydration.fetch(tasks):
            self._keep_lease()

    # ── turns ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _turn(self, tasks: Sequence[Task]) -> Sequence[Task]:
        """A few at a time, while requests wait for the only writer that SQLite has; else all that are left at once."""
        beside_requests = not self._database.is_postgresql and self._requests_wait()
        return tasks[:BESIDE_REQUESTS] if beside_requests else tasks

    def _judged(self, task: Task, code: str, *, in_transaction: bool = False) -> Judged:
        """Around a dialect's code: whatever is raised inside becomes the ending of the task, and nobody else's."""
        return Judged(self._judge, self.pulse, task, code, in_transaction)


def _portions(tasks: Sequence[Task]) -> Iterator[Sequence[Task]]:
    """A few at a time, by the bytes of their bodies, so that only so much is parsed at once."""
    portion: list[Task] = []
    size = 0
    for task in tasks:
        bytes_of_body = len(task.delivery.plain or b"")
        if portion and size + bytes_of_body > PORTION_BYTES:
            yield portion
            portion, size = [], 0
        portion.append(task)
        size += bytes_of_body
    yield portion


def _warn_of_the_future(delivery: Claimed, envelope: Envelope) -> None:
    if envelope.occurred_at > delivery.received_at + AHEAD:
        log.warning(
            "an event is dated in the future: what follows counts as older until then, or until a reconcile",
            delivery=delivery.id,
            source=delivery.source,
            occurred_at=envelope.occurred_at.isoformat(),
        )
