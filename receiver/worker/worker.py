"""The worker: applies accepted deliveries to the mirror.

`work` is one pass, in the order in which data flows. Everything that a batch changes (mirror rows, change feed,
delivery states) commits in the one transaction of the settlement; a failure before it leaves no trace but the attempt
counted at the claim.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic

import structlog
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from receiver.database.errors import is_infrastructure_error, is_lock_timeout
from receiver.dialects.sources import Source
from receiver.inbox.inbox import Inbox
from receiver.inbox.leases import Claimed
from receiver.inbox.retention import Retention
from receiver.inbox.retries import RetrySchedule
from receiver.logs.outages import Outage
from receiver.logs.safe_text import name_of, told, told_with_type, traced
from receiver.worker import liveness
from receiver.worker.attempt import Attempt, AttemptResults, DialectGuard
from receiver.worker.batch_sizes import BatchSize
from receiver.worker.claims import Claims
from receiver.worker.handling import Handling
from receiver.worker.hydration import Hydration
from receiver.worker.leases import WorkerLeases
from receiver.worker.liveness import Pulse
from receiver.worker.locks import Locks
from receiver.worker.reading import portions, read
from receiver.worker.reclaiming import Reclaiming
from receiver.worker.retention import RetentionTurns
from receiver.worker.settlement import Settlement
from receiver.worker.wake_ups import WakeUp

log = structlog.get_logger(__name__)

#: Seconds between polls for unannounced work: due retries, and deliveries accepted by other processes.
POLL_INTERVAL = 0.2

#: The most deliveries settled together on SQLite while requests arrive (docs/decisions/0014).
SETTLED_BESIDE_REQUESTS = 25

#: Seconds to wait after an error of the database; doubled up to the longest.
FIRST_RETRY_PAUSE, LONGEST_RETRY_PAUSE = 0.5, 5.0


class Worker:
    """Drains the inbox into the mirror, batch after batch. One thread runs it; any number of workers share an inbox."""

    #: The sources whose deliveries it claims at present, without those that rest. Empty before the first claim.
    claims_of: Collection[str] = ()

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
        jitter: Callable[[], float] = random.random,
        requests_wait: Callable[[], bool] = lambda: False,
    ) -> None:
        """`requests_wait` returns whether requests of this process are waiting for the database."""
        self.name = liveness.new_name()
        #: The worker's signs of life, for the watcher.
        self.pulse = Pulse()
        self._inbox, self._database = inbox, inbox.database
        self._sources = sources
        self._requests_wait = requests_wait
        # On PostgreSQL, several workers share a backlog, and larger batches would lock out the others' rows for longer.
        self._batch_size = BatchSize(batch_size, grows=not self._database.is_postgresql)
        #: The current batch.
        self._batch: list[Attempt] = []
        self.lease = lease
        self._claims = Claims(inbox, self.name, max_bytes=max_batch_bytes, lease=lease)
        self._retries = retries or RetrySchedule()
        self._results = AttemptResults(self._retries, clock=clock, jitter=jitter)
        self._retention = None if retention is None else RetentionTurns(retention, self._database, now=clock())
        self._clock, self._jitter = clock, jitter
        self._stopping, self._wake = threading.Event(), WakeUp(self._database)
        self._hydration = self._new_hydration()
        self._leases = WorkerLeases(inbox, self.name, self._held, lease=lease, clock=clock)
        self._handling = self._new_handling()
        self._locks = Locks(inbox, self.name, clock=clock, jitter=jitter)
        self._settlement = self._new_settlement()
        self._reclaiming = Reclaiming(inbox, lease=lease, max_attempts=self._retries.attempts)
        self._was_given_up = False
        self._outage = Outage(log, "a pass of the worker failed; trying again", "the worker works again")

    def _new_hydration(self) -> Hydration:
        return Hydration(
            self._sources, self.pulse, self._guarded, stopping=self._stopping.is_set, clock=self._clock, wake=self.wake
        )

    def _new_handling(self) -> Handling:
        return Handling(
            self._database, self._guarded, self._leases.extend, self._stopping.is_set, lambda: self._locks.lock_seconds
        )

    def _new_settlement(self) -> Settlement:
        return Settlement(
            self._inbox,
            self.name,
            self._results,
            self._handling,
            self._locks,
            keep_lease=self._leases.extend,
            clock=self._clock,
            jitter=self._jitter,
            wait=self._stopping.wait,
        )

    # ── the pass ──────────────────────────────────────────────────────────────────────────────────────────────

    def work(self) -> int:
        """Process one batch of due deliveries, and those of earlier passes whose slow calls have ended.

        Returns how many deliveries were claimed, or without any, how many calls are still in progress.
        """
        self._locks.begin_pass()
        self._batch = self._hydration.late()
        self._settle_all(self._batch)
        late = len(self._batch)
        self._batch = []
        self._leases.extend()
        self._hydration.begin_batch()
        began = monotonic()
        self._batch = [Attempt(delivery) for delivery in self._claim()]
        left = sum(self._work_on(portion) for portion in portions(self._batch))
        if self._batch:
            self._batch_size.passed(seconds=monotonic() - began, is_done=left == 0)
        return len(self._batch) or late or self._wait_for_calls()

    def _work_on(self, attempts: Sequence[Attempt]) -> int:
        """Finish these attempts, beginning with those that need no API, and give back those that must wait longer.

        Returns how many must wait.
        """
        now = self._clock()
        for attempt in attempts:
            with self._guarded(attempt, "the dialect's envelope"):
                read(attempt, self._sources, self._retries, now=now)
        self._unfold(attempts)
        self._hydration.sort(attempts)
        left = self._settle_ready(attempts, self._hydration.ready)
        while left:
            self._hydrate(left)
            before, left = left, self._settle_ready(left, self._hydration.ready)
            if len(left) == len(before):
                break
        left = self._settle_ready(left, self._hydration.apart)
        if not self._stopping.is_set():
            self._leases.put_back([attempt for attempt in left if not attempt.under_way])
        return len(left)

    def _unfold(self, attempts: Sequence[Attempt]) -> None:
        """Make a delivery of each event of the bundles among these, whose bodies were not readable before."""
        met: DBAPIError | None = None
        for attempt in attempts:
            if attempt.unfolds is None:
                continue
            self._leases.extend()
            if met is not None and self._stopping.is_set():
                # The others might wait for the same lock, and a worker that stops has little time.
                attempt.lock = met
                continue
            try:
                self._inbox.unfold(attempt.delivery, attempt.unfolds, hastily=self._locks.has_met)
            except DBAPIError as error:
                if not is_lock_timeout(error):
                    raise
                attempt.lock = met = error
                self._locks.note(attempt, error)

    def _settle_ready(
        self, attempts: Sequence[Attempt], choose: Callable[[Sequence[Attempt]], Sequence[Attempt]]
    ) -> Sequence[Attempt]:
        """Handle and settle the chosen attempts, and return the others."""
        chosen = choose(attempts)
        self._settle_all(chosen)
        if len(chosen) == len(attempts):
            return []
        done = {attempt.delivery.id for attempt in chosen}
        return [attempt for attempt in attempts if attempt.delivery.id not in done]

    def _settle_all(self, attempts: Sequence[Attempt]) -> None:
        while attempts:
            done = self._handling.handle(self._turn(attempts))
            self._settlement.settle(done)
            attempts = attempts[len(done) :]

    def _wait_for_calls(self) -> int:
        waited_for = len(self._hydration.under_way)
        if waited_for:
            self._wake.look()
            self._wake.wait(POLL_INTERVAL)
        return waited_for

    def run(self) -> None:
        """Work until `stop`. After an error of the database, return the claimed deliveries, wait, and continue."""
        pause = FIRST_RETRY_PAUSE
        while not self._stopping.is_set():
            try:
                if self._leases.owes:
                    self._give_back()
                self._reclaiming.look(self._clock())
                self._wake.look()
                if not self.work():
                    self._wake.wait(POLL_INTERVAL)
                if self._retention is not None:
                    self._retention.take(self._clock())
                if not self._leases.owes:
                    self._outage.worked()
                pause = FIRST_RETRY_PAUSE
            except Exception as error:
                # Every error is caught, because without a worker the inbox would fill up without a log line.
                self._tell_of_trouble(error)
                self._stopping.wait(pause)
                pause = min(pause * 2, LONGEST_RETRY_PAUSE)
                self._make_way(error)
        self._hydration.forget()
        self._give_back()
        self.close()
        if self._was_given_up:
            # This thread counts as hanging for as long as one of its calls hangs.
            self._hydration.linger()

    def wake(self) -> None:
        """Make the worker check for deliveries at once. Safe to call from any thread."""
        self._wake.set()

    def stop(self) -> None:
        """End after the current delivery. Safe to call from any thread."""
        self._stopping.set()
        self._wake.set()

    def give_up(self) -> None:
        """Count as dead although the thread still exists, so that other workers reclaim the deliveries.

        If the thread continues after all, it settles only deliveries that it still holds, and ends. Safe to call from
        any thread.
        """
        self._was_given_up = True
        liveness.deregister(self.name)
        self.stop()

    def close(self) -> None:
        """Close the clients of APIs and other resources outside the database."""
        liveness.deregister(self.name)
        self._hydration.close()

    # ── claim ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _claim(self) -> list[Claimed]:
        now = self._clock()
        if not self._hydration.under_way:
            self._leases.begin(now)
        self.claims_of = self._sources.keys() - self._hydration.resting() - self._locks.resting()
        return self._claims.claim(self.claims_of, self._batch_size, now=now, requests_wait=self._is_waited_for())

    def _give_back(self, *, put_aside: timedelta | None = None) -> None:
        """Return the claimed deliveries, without their attempts, except those with calls in progress.

        A given-up worker returns none: other workers reclaim them, and each attempt that hangs counts.
        """
        if not self._was_given_up:
            self._leases.give_back(excluding=self._hydration.under_way, put_aside=put_aside)

    def _held(self) -> list[Attempt]:
        """The whole batch, and deliveries of earlier ones with calls in progress."""
        return [*self._batch, *self._hydration.under_way]

    # ── errors ────────────────────────────────────────────────────────────────────────────────────────────────

    def _tell_of_trouble(self, error: Exception) -> None:
        # An error that is not the database's needs its traceback.
        where = {} if isinstance(error, SQLAlchemyError) else {"exception": traced(error)}
        self._outage.failed(name_of(error), error=told(error), **where)

    def _make_way(self, error: Exception) -> None:
        """Keep a delivery that causes the error from holding up the others.

        A batch that failed is retried in smaller batches. A delivery that failed alone has used its attempt; if the
        database itself failed, the attempt does not count, and the delivery waits a little as a suspect.
        """
        alone = len(self._batch) == 1 and not self._batch[0].under_way
        self._batch_size.failed()
        self._hydration.end_pass()
        if alone and not is_infrastructure_error(error) and not is_lock_timeout(error):
            self._fail_alone(Attempt(self._batch[0].delivery), f"The worker failed: {told_with_type(error)}")
        self._give_back(put_aside=timedelta(seconds=LONGEST_RETRY_PAUSE) if alone else None)

    def _fail_alone(self, attempt: Attempt, reason: str) -> None:
        attempt.result = self._results.failure(attempt, reason)
        try:
            self._settlement.settle_together([attempt])
        except Exception as error:
            log.error("cannot record a failed attempt", delivery=attempt.delivery.id, error=told(error))

    # ── hydrate ───────────────────────────────────────────────────────────────────────────────────────────────

    def _hydrate(self, attempts: Sequence[Attempt]) -> None:
        """Fetch the data of thin events outside every transaction, several at once."""
        for _ in self._hydration.fetch(attempts):
            self._leases.extend()

    # ── turns ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _turn(self, attempts: Sequence[Attempt]) -> Sequence[Attempt]:
        """The attempts to settle next: few while requests wait for SQLite's one writer, otherwise all."""
        return attempts[:SETTLED_BESIDE_REQUESTS] if self._is_waited_for() else attempts

    def _is_waited_for(self) -> bool:
        """Whether requests of this process wait while the worker writes: on SQLite, only one writes at a time."""
        return not self._database.is_postgresql and self._requests_wait()

    def _guarded(self, attempt: Attempt, code: str, *, in_transaction: bool = False) -> DialectGuard:
        """Make the context manager around a dialect's code, whose exceptions become this attempt's result."""
        return DialectGuard(self._results, self.pulse, attempt, code, in_transaction)
