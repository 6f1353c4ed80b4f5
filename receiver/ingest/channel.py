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
        """Send the rest, pass on the remaining answers of the other side, and close the socket.

        Blocks until the other side has ended its sending side, or until the deadline, a monotonic time.
        """
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        try:
            with selectors.PollSelector() as selector:
                selector.register(self._socket, selectors.EVENT_READ | selectors.EVENT_WRITE)
                self._exchange_rest(selector, deadline)
        except Exception as error:
            # Of `received`, too: what follows cannot be passed on.
            log.warning("the process at the other end does not finish", error=told(error))
        self._socket.close()

    def _exchange_rest(self, selector: selectors.BaseSelector, deadline: float) -> None:
        """Send and receive at the same time, since the other side may not read before it has sent."""
        is_sending = True
        while True:
            if is_sending and not self._unsent:
                is_sending = False
                self._socket.shutdown(socket.SHUT_WR)
                selector.modify(self._socket, selectors.EVENT_READ)
            ready = selector.select(max(deadline - time.monotonic(), 0))
            if not ready or time.monotonic() > deadline:
                raise TimeoutError("it has neither read nor answered everything in time")
            events = ready[0][1]
            if events & selectors.EVENT_READ:
                data = self._socket.recv(READ_BYTES)
                if not data and is_sending:
                    raise ConnectionResetError("the other side is gone")
                if not data:
                    return
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
