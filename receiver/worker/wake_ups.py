"""Wake-ups: what ends the pause of a worker that has found nothing to do."""

from __future__ import annotations

import threading
from time import monotonic

from receiver.database.database import Database

#: Seconds between two checks whether another process has written to a SQLite file.
LOG_LOOK = 0.02

#: Short pauses after a write: the log shows it before its commit shows, which waits for the disk.
SHORT_PAUSES = 10


class WakeUp:
    """Ends the pause of one worker: when it is set, or when another process writes to the same SQLite file."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._event = threading.Event()
        self._seen = database.log_stamp
        self._short_pauses = 0

    def set(self) -> None:
        """End the pause, or the next one. Safe to call from any thread."""
        self._event.set()

    def look(self) -> None:
        """Note what is written so far. Call it before the database is asked for work, so that no write is missed."""
        stamp = self._database.log_stamp
        if stamp != self._seen:
            self._seen, self._short_pauses = stamp, SHORT_PAUSES

    def wait(self, seconds: float) -> None:
        """Pause until it is set, until another process has written since `look`, or for this many seconds."""
        if self._database.is_postgresql:
            self._event.wait(seconds)
        else:
            ends = monotonic() + (min(seconds, LOG_LOOK) if self._short_pauses else seconds)
            self._short_pauses -= self._short_pauses > 0
            while self._database.log_stamp == self._seen and monotonic() < ends:
                if self._event.wait(min(seconds, LOG_LOOK)):
                    break
        self._event.clear()
