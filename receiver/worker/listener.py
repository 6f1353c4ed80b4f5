"""Wakes the worker when PostgreSQL announces deliveries accepted by another process, before its next poll."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import structlog

from receiver.database.announcements import CHANNEL
from receiver.database.database import Database
from receiver.database.engines import CONNECT_TIMEOUT
from receiver.database.redaction import redacted
from receiver.logs.outages import Outage
from receiver.logs.safe_text import told

log = structlog.get_logger(__name__)

#: Seconds between two checks whether to stop, and between two attempts to connect.
STOP_POLL, RECONNECT_PAUSE = 0.2, 2.0

#: Seconds between two checks whether the server still accepts writes: a demoted server sends no announcements.
CHECK = 5.0


class Listener:
    """A thread with a connection of its own. Workers also poll, so losing it causes a short delay, never a loss."""

    def __init__(self, database: Database, heard: Callable[[], None]) -> None:
        self._database = database
        self._heard = heard
        self._stopping = threading.Event()
        fails = "cannot listen for deliveries accepted elsewhere; polling continues"
        self._outage = Outage(log, fails, "listening again for deliveries accepted elsewhere")
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End without waiting for a server that does not answer."""
        self._stopping.set()
        self._thread.join(CONNECT_TIMEOUT)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._listen()
            except Exception as error:
                # Every error is caught, such as that no file can be opened: the next try may succeed.
                self._outage.failed(error=redacted(told(error), self._database.engine.url))
                self._stopping.wait(RECONNECT_PAUSE)

    def _listen(self) -> None:
        with self._database.open_session() as connection:
            _demand_writable(connection)
            connection.execute(f"LISTEN {CHANNEL}")
            self._outage.worked()
            self._heard()
            check_at = time.monotonic() + CHECK
            while not self._stopping.is_set():
                for _ in connection.notifies(timeout=STOP_POLL, stop_after=1):
                    self._heard()
                if time.monotonic() > check_at:
                    _demand_writable(connection)
                    self._outage.worked()
                    check_at = time.monotonic() + CHECK


def _demand_writable(connection: psycopg.Connection[Any]) -> None:
    """Raise psycopg's error if this server no longer accepts writes, so that no delivery can be accepted there."""
    found = connection.execute("SHOW transaction_read_only").fetchone()
    if found != ("off",):
        raise psycopg.errors.ReadOnlySqlTransaction("the server that it listened to no longer accepts writes")
