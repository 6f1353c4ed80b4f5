"""Hears from PostgreSQL that something was accepted elsewhere, so that a worker need not wait for its next look."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg
import structlog

from receiver.database import CONNECT_TIMEOUT, KEEP_ALIVE, Database
from receiver.database_url import redacted
from receiver.intake import CHANNEL

log = structlog.get_logger(__name__)

#: Seconds between two looks at whether to stop, and between two tries to connect.
LOOK, PAUSE = 0.2, 2.0


class Listener:
    """A thread with a connection of its own. Workers poll too, so losing it costs a moment, never a delivery."""

    def __init__(self, database: Database, heard: Callable[[], None]) -> None:
        self._url = database.engine.url.set(drivername="postgresql")
        self._address = self._url.render_as_string(hide_password=False)
        self._heard = heard
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """A server that no longer answers is not waited for."""
        self._stopping.set()
        self._thread.join(CONNECT_TIMEOUT)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._listen()
            except psycopg.Error as error:
                told = redacted(str(error).strip(), self._url)
                log.warning("not listening for what is accepted elsewhere; polling goes on", error=told)
                self._stopping.wait(PAUSE)

    def _listen(self) -> None:
        with psycopg.connect(
            self._address, autocommit=True, connect_timeout=CONNECT_TIMEOUT, **KEEP_ALIVE
        ) as connection:
            connection.execute(f"LISTEN {CHANNEL}")
            self._heard()
            while not self._stopping.is_set():
                for _ in connection.notifies(timeout=LOOK, stop_after=1):
                    self._heard()
