"""Announcements: notifies the workers of other processes on PostgreSQL of accepted deliveries, after their commit.

Transactions that notify commit one after another in the whole server: each holds a lock until its flush, and the answer
of a standby, have ended. A transaction that only notifies flushes nothing (docs/decisions/0063).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import structlog

from receiver.logs.safe_text import told

if TYPE_CHECKING:
    import psycopg

log = structlog.get_logger(__name__)

#: The channel on which workers listen.
CHANNEL = "hookmirror_accepted"

#: Seconds from one notification to the next, which announces everything meanwhile.
ANNOUNCEMENT_PAUSE = 0.01

#: Seconds for the last notification when the database is closed.
ANNOUNCEMENT_STOP_TIMEOUT = 2.0


class Announcements:
    """A thread with a session of its own, from the first announcement on. Thread-safe.

    Who listens also polls, so a lost announcement causes a short delay, never a loss.
    """

    def __init__(self, open_session: Callable[[], psycopg.Connection[Any]]) -> None:
        self._open_session = open_session
        self._lock = threading.Lock()
        self._is_due = False
        self._turn, self._ending = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def announce(self) -> None:
        """Notify soon, without waiting for it. Raises nothing, because what is announced is committed."""
        try:
            with self._lock:
                self._is_due = True
                self._turn.set()
                if self._thread is None:
                    self._ending.clear()
                    thread = threading.Thread(target=self._run, name="announcements", daemon=True)
                    thread.start()
                    self._thread = thread
        except (RuntimeError, MemoryError) as error:
            log.debug("cannot start the thread of announcements", error=told(error))

    def stop(self) -> None:
        """End the thread after what is due; a later announcement starts another one."""
        with self._lock:
            thread = self._thread
            self._ending.set()
            self._turn.set()
        if thread is not None:
            thread.join(ANNOUNCEMENT_STOP_TIMEOUT)

    def _run(self) -> None:
        try:
            with self._open_session() as session:
                while self._next():
                    session.execute(f"NOTIFY {CHANNEL}")
                    self._ending.wait(ANNOUNCEMENT_PAUSE)
        except Exception as error:
            # Every error is caught, such as that of a lost session. The next announcement starts another thread.
            with self._lock:
                self._thread = None
            log.debug("cannot announce; listeners poll", error=told(error))

    def _next(self) -> bool:
        """Wait until an announcement is due. False once the thread is to end."""
        if not self._ending.is_set():
            self._turn.wait()
        with self._lock:
            self._turn.clear()
            is_due, self._is_due = self._is_due, False
            if not is_due:
                self._thread = None
        return is_due
