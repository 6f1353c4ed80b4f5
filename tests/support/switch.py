"""An address that leads to one server and later to another, like a virtual address or a host name at a failover."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from proxy import Proxy
from waiting import TIMEOUT


class Switch:
    """Passes new connections to the present target; open connections stay with their server."""

    def __init__(self, proxy: Proxy, loop: asyncio.AbstractEventLoop) -> None:
        self._proxy = proxy
        self._loop = loop

    @property
    def port(self) -> int:
        return self._proxy.port

    def lead_to(self, port: int) -> None:
        self._loop.call_soon_threadsafe(self._proxy.targets.__setitem__, 0, ("127.0.0.1", port))

    def cut(self) -> None:
        """Cut every open connection."""
        self._loop.call_soon_threadsafe(self._proxy.cut)


@contextmanager
def switched(port: int) -> Iterator[Switch]:
    """Open an address that leads to this local port at first."""
    ready, stop = threading.Event(), asyncio.Event()
    made: list[Switch] = []

    async def run() -> None:
        async with Proxy([("127.0.0.1", port)]) as proxy:
            made.append(Switch(proxy, asyncio.get_running_loop()))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),), name="switch")
    thread.start()
    try:
        assert ready.wait(TIMEOUT)
        yield made[0]
    finally:
        made[0]._loop.call_soon_threadsafe(stop.set)
        thread.join(TIMEOUT)
