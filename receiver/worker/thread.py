"""Runs a worker on a separate thread, and watches it: a handler that never returns stops one thread, not the work.

Python cannot end a thread. So a worker whose handler hangs is given up: it counts as dead, other workers reclaim its
deliveries, and a new worker starts on another thread. The delivery is a suspect then: it is claimed alone, and is dead
when its attempts are used up.

A handler that hangs without ever releasing the interpreter (a regular expression that backtracks for ever) stops the
watch, too. For that there is a timer outside the interpreter, which ends the process.
"""

from __future__ import annotations

import faulthandler
import os
import threading
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import structlog

from receiver.database.database import Database
from receiver.logs.safe_text import told_with_limit
from receiver.logs.standard_error import STANDARD_ERROR
from receiver.metrics import metrics
from receiver.worker.liveness import POLLS_PER_LEASE, AtHand, Watch
from receiver.worker.worker import Worker

if TYPE_CHECKING:
    from receiver.worker.listener import Listener

log = structlog.get_logger(__name__)

#: Seconds that a worker has to finish its current delivery when the process stops.
WORKER_STOP_TIMEOUT = 20.0

#: The most hung workers in one process, each with a thread and perhaps a connection; one more ends the process.
MOST_HUNG = 4

#: The process ends when the watcher has not run for this many leases, and at least for this many seconds.
STANDSTILL_LEASES, STANDSTILL_SECONDS = 3, 10.0

#: Seconds for an idle thread to end.
TURN = 1.0

#: The exit code when the process must be replaced: the system's code for an internal error.
EXIT_HUNG = 70


def end_process() -> None:
    """End the process at once, like a crash: acked deliveries are kept, and the supervisor starts the next process."""
    os._exit(EXIT_HUNG)


class WorkerThread:
    """Keeps one worker running, and wakes it when another process accepts deliveries."""

    def __init__(
        self, new_worker: Callable[[], Worker], database: Database, *, end_process: Callable[[], None] = end_process
    ) -> None:
        """`end_process` is called for hangs that block all work: beyond `MOST_HUNG`, or inside the transaction."""
        self._new_worker = new_worker
        self._end_process = end_process
        self._stopping = threading.Event()
        #: Set when the watcher must act at once, because a worker that was asked to end has ended.
        self._turn = threading.Event()
        #: The worker to be replaced by one with the new settings.
        self._leaving: threading.Thread | None = None
        self._changing = threading.Lock()
        self._hung: list[threading.Thread] = []
        self._thread = self._begin(new_worker())
        self._watcher = threading.Thread(target=self._keep, name="watcher", daemon=True)
        self._listener = _listener(database, self.wake)

    def start(self) -> None:
        self._thread.start()
        self._watcher.start()
        if self._listener is not None:
            self._listener.start()

    def wake(self) -> None:
        """Make the worker check for deliveries at once. Safe to call from any thread."""
        self._worker.wake()

    def claims_of(self) -> Collection[str]:
        """The sources whose deliveries the worker claims at present. Safe to call from any thread."""
        return self._worker.claims_of

    def trouble(self) -> str | None:
        """Describe a failure that only a restart mends; None while the worker lives and is watched."""
        if not self._watcher.is_alive():
            return "The worker is no longer watched: restart this process."
        thread = self._thread
        # One that was asked to end is about to be replaced.
        return None if thread.is_alive() or thread is self._leaving else "The worker's thread has ended."

    def renew(self) -> None:
        """Continue with a new worker once the present one has finished its delivery. Safe to call from any thread."""
        with self._changing:
            self._leaving = self._thread
            self._worker.stop()

    def stop(self) -> None:
        """End after the current delivery; after `WORKER_STOP_TIMEOUT` seconds, leave its lease to expire."""
        self._stopping.set()
        self._turn.set()
        self._watcher.join()
        self._worker.stop()
        self._thread.join(WORKER_STOP_TIMEOUT)
        if self._listener is not None:
            self._listener.stop()

    def _begin(self, worker: Worker) -> threading.Thread:
        """Make this the present worker, and return its thread, which is not started."""
        self._worker = worker
        self._watch = Watch(worker.pulse)
        return threading.Thread(target=self._work, args=(worker,), name="worker", daemon=True)

    def _work(self, worker: Worker) -> None:
        worker.run()
        # Not after an error, which would only recur at once.
        self._turn.set()

    def _keep(self) -> None:
        """Poll the worker until it is asked to stop."""
        while not self._stopping.is_set():
            lease = self._worker.lease.total_seconds()
            asked = self._turn.wait(lease / POLLS_PER_LEASE)
            self._turn.clear()
            if self._stopping.is_set():
                break
            try:
                # The timer outside the interpreter writes the stack of every thread to standard error.
                standstill = max(STANDSTILL_LEASES * lease, STANDSTILL_SECONDS)
                faulthandler.dump_traceback_later(standstill, exit=True, file=STANDARD_ERROR)
            except Exception as error:
                log.error("cannot set the timer for handlers that block the interpreter", error=told_with_limit(error))
            try:
                self._poll(asked)
            except Exception as error:
                # Every error is caught, such as that no thread can be started: the next poll may succeed.
                log.error("cannot look after the worker; trying again", error=told_with_limit(error))
        faulthandler.cancel_dump_traceback_later()

    def _poll(self, asked: bool) -> None:
        """Check the worker; with `asked`, only whether it has ended, because other polls are counted."""
        self._hung = [thread for thread in self._hung if thread.is_alive()]
        if asked:
            self._thread.join(TURN)
        hanging = [] if asked else self._watch.poll()
        if hanging:
            self._give_up(hanging)
        elif not self._thread.is_alive():
            if self._leaving is not self._thread:
                log.error("the worker's thread has ended; starting another")
            self._replace()
        metrics.HUNG_WORKERS.set(len(self._hung))

    def _give_up(self, hanging: list[AtHand]) -> None:
        for each in hanging:
            log.error("a handler hangs", delivery=each.delivery, handler=each.code, stack=each.stack)
        if any(each.in_transaction for each in hanging):
            log.error("a handler hangs inside the transaction and holds locks: ending this process")
            self._end_process()
        elif len(self._hung) == MOST_HUNG:
            log.error("too many workers hang: ending this process", workers=len(self._hung) + 1)
            self._end_process()
        else:
            log.error("gave up a hung worker; starting another", hung=len(self._hung) + 1)
            self._hung.append(self._thread)
            self._replace()

    def _replace(self) -> None:
        with self._changing:
            self._worker.give_up()
            thread = self._begin(self._new_worker())
            # A thread that is not started yet would be reported as one that has ended.
            thread.start()
            self._thread = thread


def _listener(database: Database, heard: Callable[[], None]) -> Listener | None:
    if not database.is_postgresql:
        return None
    # Imports PostgreSQL's driver, which SQLite does not need.
    from receiver.worker.listener import Listener

    return Listener(database, heard)
