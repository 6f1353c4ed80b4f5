"""A TCP proxy for tests that cuts connections in the middle of an answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field

from waiting import TIMEOUT


@dataclass
class CuttingProxy:
    """A running proxy. The next `to_cut` answers end in their middle."""

    port: int
    to_cut: int = 0
    was_cut: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cuts(self) -> bool:
        """Whether the present answer is cut; each call is about another answer."""
        with self.lock:
            if self.to_cut:
                self.to_cut -= 1
                self.was_cut += 1
                return True
            return False


@contextmanager
def cutting(port: int) -> Iterator[CuttingProxy]:
    """Pass each connection on to this port of the machine, until the end of the block."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        proxy = CuttingProxy(listening.getsockname()[1])

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listening.accept()
                    threading.Thread(target=_pass_on, args=(proxy, client, port), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield proxy
        listening.shutdown(socket.SHUT_RDWR)


def _pass_on(proxy: CuttingProxy, client: socket.socket, port: int) -> None:
    with closing(client), suppress(OSError), closing(socket.create_connection(("127.0.0.1", port))) as server:
        for each in (client, server):
            each.settimeout(TIMEOUT)
        threading.Thread(target=_copy, args=(client, server), daemon=True).start()
        is_first = True
        while some := server.recv(65_536):
            if is_first and proxy.cuts():
                # The head and the first byte of the body.
                client.sendall(some[: some.find(b"\r\n\r\n") + 5])
                # The other thread reads from this socket, so to close it would not end the connection.
                client.shutdown(socket.SHUT_RDWR)
                return
            is_first = False
            client.sendall(some)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while some := source.recv(65_536):
            target.sendall(some)
