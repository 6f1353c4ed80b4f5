"""Settlement: commits the effects of a batch on the mirror, and the states of its deliveries, in one transaction.

If the database refuses the content of a batch, or another session holds a lock that it needs, the deliveries are
settled one by one, and those that need the lock return to the inbox.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from time import perf_counter_ns
from typing import NamedTuple

import structlog
from sqlalchemy import Connection

from receiver.database.bulk import Statement, execute_all
from receiver.database.errors import is_infrastructure_error, is_lock_timeout, retry_transaction
from receiver.database.lock_timeouts import limit_lock_waits
from receiver.inbox.attempts import AttemptResult, microseconds_since
from receiver.inbox.inbox import Inbox
from receiver.logs.safe_text import told
from receiver.mirror import changes
from receiver.mirror.basis import RowsFound, still_holds
from receiver.mirror.changes import RowChange
from receiver.mirror.rows import Write
from receiver.mirror.unit_of_work import UnitOfWork
from receiver.worker.attempt import Attempt, AttemptResults, count
from receiver.worker.handling import Handling, TransactionEnded
from receiver.worker.locks import WARY_SECONDS, Locks

log = structlog.get_logger(__name__)

#: Seconds that each of several deliveries waits for a lock when they are settled one by one: first, and once many of
#: them have waited in vain.
ALONE_SECONDS, ALONE_AT_LAST = 0.1, 0.01


class MirrorEffect(NamedTuple):
    """The effect of some attempts on the mirror, ready to be written."""

    results: Sequence[AttemptResult]
    #: The statements that write the rows, and those that append to the change feed.
    rows: Sequence[Statement]
    feed: Sequence[Statement]
    #: The rows that were read for it.
    basis: Sequence[RowsFound]


class Settlement:
    """Settles the deliveries of one worker."""

    def __init__(
        self,
        inbox: Inbox,
        worker: str,
        attempt_results: AttemptResults,
        handling: Handling,
        locks: Locks,
        *,
        keep_lease: Callable[[], None],
        clock: Callable[[], datetime],
        jitter: Callable[[], float],
        wait: Callable[[float], object],
    ) -> None:
        """`wait` is called with the seconds to wait before an aborted transaction is run again.

        `keep_lease` is called before each of several deliveries that are settled one by one.
        """
        self._keep_lease = keep_lease
        self._inbox = inbox
        self._worker = worker
        self._results = attempt_results
        self._handling = handling
        self._locks = locks
        self._clock = clock
        self._jitter = jitter
        self._wait = wait

    def settle(self, attempts: Sequence[Attempt]) -> None:
        """Commit the attempts' effects; after a refusal by the database, one by one, so that only refused ones fail.

        Deliveries that need a lock of another session return to the inbox, due after a pause. Raises SQLAlchemy's error
        if the database itself fails.
        """
        done = [attempt for attempt in attempts if attempt.is_certain or attempt.handled]
        if not done:
            return
        if self._locks.has_met or any(attempt.lock is not None for attempt in done):
            self._settle_apart(done)
        else:
            self._settle_at_once(done)
        for attempt in attempts:
            attempt.forget()

    def _settle_at_once(self, attempts: Sequence[Attempt]) -> None:
        try:
            self.settle_together(attempts, lock_seconds=self._locks.lock_seconds)
        except Exception as error:
            # An interrupted handler may be the cause; alone, each uses up only its own repetitions.
            if is_infrastructure_error(error) and not any(attempt.interruptions for attempt in attempts):
                raise
            if not is_lock_timeout(error):
                log.warning("cannot settle a batch; settling its deliveries one by one", error=told(error))
            if not isinstance(error, TransactionEnded):
                # What the handlers inside it have read is rolled back with it, so how they ended counts no more.
                for attempt in attempts:
                    if attempt.wants_session:
                        attempt.run_inside()
            self._settle_apart(attempts)

    def settle_together(self, attempts: Sequence[Attempt], *, lock_seconds: float | None = None) -> None:
        """Commit the attempts' effects together or not at all. Raises errors of the database and the bulk write."""
        results = retry_transaction(lambda: self._commit(attempts, lock_seconds), wait=self._wait, jitter=self._jitter)
        count(attempts, results, now=self._clock())

    def _settle_apart(self, attempts: Sequence[Attempt]) -> None:
        """Settle the attempts one by one, and return to the inbox those that need a lock of another session.

        The later attempts of their entities return with them, so that they keep their order. Each of the others is
        tried, however many meet locks: those that were left out might be left out each time.
        """
        locked: list[tuple[Attempt, Exception]] = []
        for attempt in attempts:
            self._keep_lease()
            if attempt.has_read and not attempt.wants_session:
                # One before it may be refused or postponed, so its handler reads again what is there.
                attempt.run_inside()
            error = self._locks.met_before(attempt)
            if error is None:
                error = self._settle_alone(attempt, ALONE_AT_LAST if self._locks.are_many else ALONE_SECONDS)
            if error is not None:
                locked.append((attempt, error))
                self._locks.note(attempt, error)
        if locked:
            self._locks.postpone(locked)

    def _settle_alone(self, attempt: Attempt, lock_seconds: float) -> Exception | None:
        """Settle one attempt; return the error if another session holds a lock that it needs."""
        try:
            self._end(attempt, lock_seconds)
        except Exception as error:
            if not is_lock_timeout(error):
                raise
            return error
        return None

    def _end(self, attempt: Attempt, lock_seconds: float) -> None:
        """Commit the effect of one attempt, or its failure if the database refuses the effect."""
        try:
            self.settle_together([attempt], lock_seconds=lock_seconds)
        except TransactionEnded:
            # Its result is certain now, so its handler does not run again.
            self.settle_together([attempt], lock_seconds=lock_seconds)
        except Exception as error:
            if is_infrastructure_error(error) or is_lock_timeout(error):
                raise
            # Without the values read in the body, because the database may refuse one of them.
            attempt.envelope = None
            attempt.result = self._results.failure(attempt, f"The mirror refused its rows: {told(error)}")
            self.settle_together([attempt], lock_seconds=lock_seconds)

    def _commit(self, attempts: Sequence[Attempt], lock_seconds: float | None) -> list[AttemptResult]:
        """Write rows, change feed and delivery states in ONE transaction, for deliveries still held by the worker."""
        now, began = self._clock(), perf_counter_ns()
        prepared = self._prepare(attempts, now)
        with self._inbox.database.write() as connection:
            if lock_seconds is not None:
                limit_lock_waits(connection, lock_seconds)
            ours = self._ours(connection, attempts)
            if prepared is not None and ours is attempts and still_holds(connection, prepared.basis):
                effect = prepared
            else:
                self._run_with_sessions(ours, connection)
                effect = self._effect(ours, connection, now, lock=True)
            execute_all(connection, effect.rows)
            self._inbox.settle(connection, self._worker, effect.results, now=now, settle_us=microseconds_since(began))
            if lock_seconds is not None and effect.feed:
                # Our own processes hold the numbering of the feed until their commits end.
                limit_lock_waits(connection, WARY_SECONDS)
            changes.append(connection, effect.feed)
        return list(effect.results)

    def _ours(self, connection: Connection, attempts: Sequence[Attempt]) -> Sequence[Attempt]:
        """The attempts whose deliveries the worker still holds, locked: usually all."""
        ids = [attempt.delivery.id for attempt in attempts]
        if self._inbox.holds_all(connection, self._worker, ids):
            return attempts
        held = self._inbox.held(connection, self._worker, ids)
        return [attempt for attempt in attempts if attempt.delivery.id in held]

    def _prepare(self, attempts: Sequence[Attempt], now: datetime) -> MirrorEffect | None:
        """Compute the effect on a reader's snapshot, because acks wait while SQLite's one writer computes.

        None if handlers need the settling transaction, and on PostgreSQL, whose writers work side by side.
        """
        if self._inbox.database.is_postgresql or any(_runs_inside(attempt) for attempt in attempts):
            return None
        with self._inbox.database.read() as connection:
            return self._effect(attempts, connection, now)

    def _run_with_sessions(self, attempts: Sequence[Attempt], connection: Connection) -> None:
        """Run the handlers that asked for a session; each sees the news of those before it."""
        earlier: list[Write] = []
        for attempt in attempts:
            if _runs_inside(attempt):
                self._handling.run_in_savepoint(attempt, earlier, connection)
            earlier.extend(attempt.writes if attempt.result is None else [])

    def _effect(
        self, attempts: Sequence[Attempt], connection: Connection, now: datetime, *, lock: bool = False
    ) -> MirrorEffect:
        """Compute the effect of these attempts on the rows, which the transaction reads and may lock."""
        rows = UnitOfWork(connection)
        rows.load([write for attempt in attempts if attempt.result is None for write in attempt.writes], lock=lock)
        results, feed = self._apply(attempts, rows)
        return MirrorEffect(results, rows.saves(), changes.recordings(connection.dialect, feed, now=now), rows.basis)

    def _apply(
        self, attempts: Sequence[Attempt], unit_of_work: UnitOfWork
    ) -> tuple[list[AttemptResult], list[RowChange]]:
        """Apply the news, and return the results of the attempts with their changes."""
        results: list[AttemptResult] = []
        feed: list[RowChange] = []
        for attempt in attempts:
            result = attempt.result
            if result is None:
                outcome, changed = unit_of_work.apply(attempt.writes, delivery_id=attempt.delivery.id)
                feed.extend(changed)
                result = self._results.success(attempt, outcome)
            results.append(result)
        return results, feed


def _runs_inside(attempt: Attempt) -> bool:
    """Whether the attempt's handler runs inside the settling transaction."""
    return attempt.result is None and attempt.wants_session
