"""Askers: clients that ask one address after the other beside a load.

They compute at the lowest priority, because real ones compute on other machines.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle

import httpx

#: The priority of a thread that runs only when nothing else wants the core.
LOWEST = 19


@contextmanager
def asking(
    clients: Sequence[httpx.Client], paths: Sequence[str], *, pause: float, apart: int = 0
) -> Iterator[Counter[int]]:
    """Let the clients ask for the paths in turn, with a pause in seconds, until the end of the block; close them then.

    Each begins `apart` paths after the previous one. The answers are counted by status.
    """
    stopping = threading.Event()
    answered: Counter[int] = Counter()

    def ask(client: httpx.Client, first: int) -> None:
        # On Linux, a priority belongs to a thread.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST)
        for path in cycle([*paths[first:], *paths[:first]]):
            answered[client.get(path, follow_redirects=True).status_code] += 1
            if stopping.wait(pause):
                return

    threads = [threading.Thread(target=ask, args=(client, n * apart)) for n, client in enumerate(clients)]
    for thread in threads:
        thread.start()
    try:
        yield answered
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
        for client in clients:
            client.close()
