"""Ports for servers that tests start in processes of their own."""

from __future__ import annotations

import random
import socket
import sys
from collections import deque
from contextlib import suppress

from simulator.receiver_process import PORTS, TRIES

#: Sockets that keep the latest ports of this process. So many are not used by the tests of one file.
_kept: deque[socket.socket] = deque(maxlen=200)


def free_port() -> int:
    """Find a port on which nothing listens, and that no other process of tests finds until this one ends.

    Raises `OSError` if all tries fail.
    """
    for port in random.SystemRandom().sample(PORTS, TRIES):
        found = socket.socket()
        with suppress(OSError):
            # Another test's socket is in the way until it is closed.
            found.bind(("127.0.0.1", port))
            _keep(found)
            return port
        found.close()
    raise OSError(f"None of {TRIES} ports between {PORTS[0]} and {PORTS[-1]} is free. End the programs on them.")


def _keep(found: socket.socket) -> None:
    """Keep the socket open without listening, beside which Linux lets a server listen on the same port."""
    if sys.platform != "linux":
        found.close()
        return
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if len(_kept) == _kept.maxlen:
        _kept[0].close()
    _kept.append(found)
