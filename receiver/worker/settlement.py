"""Settlement: commits what a batch of deliveries did to the mirror, with their states, in one transaction.

If the content of a batch is what the database refuses, its deliveries are settled one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import structlog
from sqlalchemy import Connection

from receiver.database.errors import is_infrastructure_error, retry_transaction
from receiver.inbox.inbox import Inbox
from receiver.inbox.results import AttemptResult
from receiver.logs.safe_text import told
from receiver.mirror import changes
from receiver.mirror.changes import RowChange
from receiver.mirror.rows import Write
from receiver.mirror.unit_of_work import UnitOfWork
from receiver.worker.attempt import AttemptResults, Task, count
from receiver.worker.handling import Handling

log = structlog.get_logger(__name__)


class Settlement:
    """Settles what one worker holds."""

    def __init__(
        self,
        inbox: Inbox,
        worker: str,
        judge: AttemptResults,
        handling: Handling,
        *,
        clock: Callable[[], datetime],
        jitter: Callable[[], float],
        wait: Callable[[float], object],
    ) -> None:
        """`wait` is called with seconds before a transaction that was broken off is run again."""
        self._inbox = inbox
        self._worker = worker
        self._results = judge
        self._handling = handling
        self._clock = clock
        self._jitter = jitter
        self._wait = wait

    def settle(self, tasks: Sequence[Task]) -> None:
        """Commit what these did; if their content forbids that, one delivery at a time, so only the guilty pays.

        Raises SQLAlchemy's error if the database is what fails.
        """
        done = [task for task in tasks if task.ending is not None or task.handled]
        if not done:
            return
        try:
            self.settle_together(done)
        except Exception as error:
            # Interrupted handlers may be what it is: alone, each uses up its own chances and nobody else's.
            if is_infrastructure_error(error) and not any(task.interruptions for task in done):
                raise
            log.warning("a batch could not be settled; settling its deliveries one by one", error=told(error))
            for task in done:
                self._settle_alone(task)
        for task in tasks:
            task.forget()

    def settle_together(self, tasks: Sequence[Task]) -> None:
        """Commit what these did, all or nothing. Raises what the database or the bulk write raised."""
        endings = retry_transaction(lambda: self._commit(tasks), wait=self._wait, jitter=self._jitter)
        count(tasks, endings, now=self._clock())

    def _settle_alone(self, task: Task) -> None:
        try:
            self.settle_together([task])
        except Exception as error:
            if is_infrastructure_error(error):
                raise
            # What was read in the body is left out as well: it may be what is refused.
            task.envelope = None
            task.ending = self._results.failure(task, f"The mirror refused its rows: {told(error)}")
            self.settle_together([task])

    def _commit(self, tasks: Sequence[Task]) -> list[AttemptResult]:
        """ONE transaction: mirror rows, change feed, delivery states. Only for what this worker still holds."""
        now = self._clock()
        with self._inbox.database.write() as connection:
            held = self._inbox.held(connection, self._worker, [task.delivery.id for task in tasks])
            ours = [task for task in tasks if task.delivery.id in held]
            self._run_with_sessions(ours, connection)
            unit_of_work = UnitOfWork(connection)
            unit_of_work.load([write for task in ours if task.ending is None for write in task.writes], lock=True)
            endings, feed = self._apply(ours, unit_of_work)
            unit_of_work.save()
            self._inbox.settle(connection, self._worker, endings, now=now)
            changes.record(connection, feed, now=now)
        return endings

    def _run_with_sessions(self, tasks: Sequence[Task], connection: Connection) -> None:
        """Run the handlers that asked for a session; each sees what those before it say."""
        earlier: list[Write] = []
        for task in tasks:
            if task.ending is None and task.wants_session:
                self._handling.run_in_savepoint(task, earlier, connection)
            earlier.extend(task.writes if task.ending is None else [])

    def _apply(self, tasks: Sequence[Task], unit_of_work: UnitOfWork) -> tuple[list[AttemptResult], list[RowChange]]:
        """How the attempts end, and what they change."""
        endings: list[AttemptResult] = []
        feed: list[RowChange] = []
        for task in tasks:
            ending = task.ending
            if ending is None:
                outcome, changed = unit_of_work.apply(task.writes, delivery_id=task.delivery.id)
                feed.extend(changed)
                ending = self._results.success(task, outcome)
            endings.append(ending)
        return endings, feed
