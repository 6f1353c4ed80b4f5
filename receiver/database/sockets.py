"""The socket of a connection to PostgreSQL, through which another thread can end a statement that hangs."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from typing import Any

from sqlalchemy import Engine, event


class OpenSocket:
    """The socket of an engine's only connection. Thread-safe.

    It is a duplicate, because the driver may close its own at any moment, and its number may then be that of another
    socket or file.
    """

    def __init__(self, engine: Engine) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        # Before all other listeners, since setting up a session may hang, too.
        event.listen(engine, "connect", lambda connection, _: self._keep(connection), insert=True)
        event.listen(engine, "close", lambda *_: self._close())

    def shut_down(self) -> None:
        """End the connection, if there is one: a statement that waits for the server's answer fails at once."""
        with self._lock, suppress(OSError):
            if self._socket is not None:
                self._socket.shutdown(socket.SHUT_RDWR)

    def _keep(self, connection: Any) -> None:
        self._close()
        self._socket = socket.socket(fileno=os.dup(connection.pgconn.socket))

    def _close(self) -> None:
        with self._lock:
            if self._socket is not None:
                self._socket.close()
            self._socket = None
