"""Askers: clients that ask one address after the other beside a load."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle

import httpx


@contextmanager
def asking(
    clients: Sequence[httpx.Client], paths: Sequence[str], *, pause: float, apart: int = 0
) -> Iterator[Counter[int]]:
    """Let the clients ask for the paths in turn, with a pause in seconds, until the end of the block; close them then.

    Each begins `apart` paths after the one before. The answers are counted by status.
    """
    stopping = threading.Event()
    answered: Counter[int] = Counter()

    def ask(client: httpx.Client, first: int) -> None:
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
