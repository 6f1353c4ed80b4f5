"""An address of this machine that drops the packets of new connections, as a firewall does."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

#: An address beside 127.0.0.1, which Linux has without any set-up.
DROPPING = "127.0.0.2"

#: More connections than fit into the queue of a listener that accepts none.
FILLING = 4


@contextmanager
def dropping(port: int) -> Iterator[str]:
    """Let `DROPPING` answer no packet at this port: a listener's queue is full, so that Linux drops new ones."""
    with ExitStack() as opened:
        listener = opened.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((DROPPING, port))
        listener.listen(0)
        for _ in range(FILLING):
            filling = opened.enter_context(socket.socket())
            filling.setblocking(False)
            with suppress(BlockingIOError):
                filling.connect((DROPPING, port))
        yield DROPPING
