"""Channel: one end of a socket between two processes, read and written by an event loop."""

from __future__ import annotations

import asyncio
import selectors
import socket
import time
from collections.abc import Callable

import structlog

from receiver.logs.safe_text import told

log = structlog.get_logger(__name__)

#: Bytes that are read from the socket at a time.
READ_BYTES = 1 << 18


class Channel:
    """Sends all bytes in order, however long the other side takes, and passes on what arrives."""

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        *,
        received: Callable[[bytes], None],
        lost: Callable[[], None],
    ) -> None:
        """`received` gets bytes as they arrive; `lost` is called once if the other side is gone."""
        self._socket, self._loop = sock, loop
        self._received, self._lost = received, lost
        self._unsent = bytearray()
        sock.setblocking(False)
        loop.add_reader(sock, self._read)

    def send(self, data: bytes) -> None:
        if not self._unsent:
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                # The reader is told, too, and says that the other side is gone.
                return
            if sent == len(data):
                return
            data = data[sent:]
            self._loop.add_writer(self._socket, self._send_rest)
        self._unsent += data

    def finish(self, deadline: float) -> None:
        """End the sending side, pass on the remaining answers of the other side, and close the socket.

        Blocks until the other side has closed its end, or until the deadline, a monotonic time.
        """
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        try:
            self._send_unsent(deadline)
            self._socket.shutdown(socket.SHUT_WR)
            self._socket.settimeout(_left(deadline))
            while data := self._socket.recv(READ_BYTES):
                self._received(data)
                self._socket.settimeout(_left(deadline))
        except OSError as error:
            log.warning("the process at the other end does not finish", error=told(error))
        self._socket.close()

    def _send_unsent(self, deadline: float) -> None:
        """Send the rest, and pass on what arrives meanwhile, since the other side may not read before it has sent."""
        with selectors.PollSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ | selectors.EVENT_WRITE)
            while self._unsent:
                ready = selector.select(_left(deadline))
                if not ready or time.monotonic() > deadline:
                    raise TimeoutError("the other side does not read")
                events = ready[0][1]
                if events & selectors.EVENT_READ:
                    data = self._socket.recv(READ_BYTES)
                    if not data:
                        raise ConnectionResetError("the other side is gone")
                    self._received(data)
                if events & selectors.EVENT_WRITE:
                    del self._unsent[: self._socket.send(self._unsent)]

    def close(self) -> None:
        """Stop reading and writing, and close the socket."""
        if self._socket.fileno() == -1:
            return
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()

    def _send_rest(self) -> None:
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            return
        except OSError:
            sent = len(self._unsent)
        del self._unsent[:sent]
        if not self._unsent:
            self._loop.remove_writer(self._socket)

    def _read(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._received(data)
        else:
            self.close()
            self._lost()


def _left(deadline: float) -> float:
    """Seconds until the deadline, but never 0, which would mean something else to a socket."""
    return max(deadline - time.monotonic(), 0.01)
