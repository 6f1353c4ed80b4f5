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

#: The errors of sending to a side that is gone.
OTHER_SIDE_GONE = (BrokenPipeError, ConnectionResetError)


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
        """`received` gets bytes as they arrive; `lost` is called once if the other side is gone.

        So it is after an error of `received`, because whatever follows would be taken for something else.
        """
        self._socket, self._loop = sock, loop
        self._received, self._lost = received, lost
        self._unsent = bytearray()
        sock.setblocking(False)
        loop.add_reader(sock, self._read)

    def send(self, data: bytes) -> None:
        """Send the bytes now, or once the other side has room for them. Nothing is sent if that side is gone.

        Raises `OSError` if the system takes none of them, such as without memory.
        """
        if not self._unsent:
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                sent = 0
            except OTHER_SIDE_GONE:
                # The reader is told, too, and says so.
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
        except Exception as error:
            # Of `received`, too: what follows cannot be passed on.
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
        except OTHER_SIDE_GONE:
            sent = len(self._unsent)
        except OSError as error:
            # The other side would take what is sent next for this rest.
            self._break_off(error)
            return
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
        if not data:
            self._end()
            return
        try:
            self._received(data)
        except Exception as error:
            self._break_off(error)

    def _break_off(self, error: Exception) -> None:
        # Before the line is written, which may fail for the same reason.
        self._end()
        log.error("cannot exchange more with the process at the other end", error=told(error))

    def _end(self) -> None:
        self.close()
        self._lost()


def _left(deadline: float) -> float:
    """Seconds until the deadline, but never 0, which would mean something else to a socket."""
    return max(deadline - time.monotonic(), 0.01)
