"""Announcements: notifies the workers of other processes on PostgreSQL of accepted deliveries, after their commit.

Transactions that notify commit one after another in the whole server: each holds a lock until its flush, and the answer
of a standby, have ended. A transaction that only notifies flushes nothing (docs/decisions/0063).
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from receiver.logs.repeats import Repeats
from receiver.logs.safe_text import told

_repeated = Repeats(structlog.get_logger(__name__))

#: The channel on which workers listen.
CHANNEL = "hookmirror_accepted"

NOTIFY = f"SELECT pg_notify('{CHANNEL}', '')"

#: Seconds from one notification to the next, which announces everything meanwhile; and the same after an error, such as
#: that the server gives no connection, so that it is not asked for one after each commit.
ANNOUNCEMENT_PAUSE, ANNOUNCEMENT_ERROR_PAUSE = 0.01, 1.0

#: Seconds for the last notification when the database is closed: by then, those who listen have found the work.
ANNOUNCEMENT_STOP_TIMEOUT = 0.2


class Announcements:
    """A thread, from the first announcement on. Thread-safe.

    Who listens also polls, so a lost announcement causes a short delay, never a loss.
    """

    def __init__(self, notify: Callable[[], object]) -> None:
        self._notify = notify
        self._starting = threading.Lock()
        self._is_due = False
        #: Set after `_is_due` and `_ending`, so that the thread sees them.
        self._turn, self._ending = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def announce(self) -> None:
        """Notify soon, without waiting for it. Raises nothing, because what is announced is committed."""
        try:
            self._is_due = True
            if not self._turn.is_set():
                self._turn.set()
            if not self._is_running() and not self._ending.is_set():
                self._start()
        except (RuntimeError, MemoryError) as error:
            _tell(error)

    def stop(self) -> None:
        """End the thread after what is due. Nothing is announced any more."""
        self._ending.set()
        self._turn.set()
        if self._thread is not None:
            self._thread.join(ANNOUNCEMENT_STOP_TIMEOUT)

    def _is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _start(self) -> None:
        with self._starting:
            if not self._is_running():
                thread = threading.Thread(target=self._run, name="announcements", daemon=True)
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        while self._is_due or not self._ending.is_set():
            if self._is_due:
                self._is_due = False
                self._ending.wait(self._pause_after_notifying())
            else:
                self._turn.wait()
                self._turn.clear()

    def _pause_after_notifying(self) -> float:
        try:
            self._notify()
        except Exception as error:
            # Every error is caught, such as that of a lost connection: the next notification may succeed.
            _tell(error)
            return ANNOUNCEMENT_ERROR_PAUSE
        return ANNOUNCEMENT_PAUSE


def _tell(error: Exception) -> None:
    says = "cannot announce accepted deliveries; the workers of other processes find them by polling"
    _repeated.warning(says, about={}, error=told(error))
