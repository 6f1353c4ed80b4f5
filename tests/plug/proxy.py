"""A TCP proxy that can misbehave: it balances over several targets, cuts connections, and holds bytes back."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import Sequence

#: Most bytes passed on at once.
PIECE = 65_536

Address = tuple[str, int]


class Proxy:
    """A proxy on a port of its own. Its methods must be called in the event loop that it was started in."""

    def __init__(self, targets: Sequence[Address], *, jitter: random.Random | None = None) -> None:
        self.targets = list(targets)
        self.port = 0
        #: Seconds by which every piece is delayed.
        self.delay = 0.0
        #: The number of connections so far, and of those that are open.
        self.accepted = 0
        self.open = 0
        self._jitter = jitter or random.Random()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._closed = False
        self._server: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hold(self) -> None:
        """Keep connections and accept new ones, but pass no bytes on, as a network does that drops packets."""
        self._flowing.clear()

    def release(self) -> None:
        """Pass bytes on again, beginning with those held back."""
        self._flowing.set()

    def close_door(self) -> None:
        """Cut all connections, and every new one immediately."""
        self._closed = True
        self.cut()

    def open_door(self) -> None:
        self._closed = False

    def cut(self) -> None:
        """Cut every connection, whatever it is doing."""
        for end in list(self._ends):
            end.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted += 1
        self.open += 1
        self._ends.add(writer)
        try:
            # Connections are cancelled only when the proxy closes. asyncio would report that as an error.
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._join(reader, writer)
        finally:
            self.open -= 1
            self._ends.discard(writer)
            writer.transport.abort()
            self._tasks.discard(task)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._closed:
            return
        await self._flowing.wait()
        target_reader, target_writer = await self._open_target()
        self._ends.add(target_writer)
        try:
            ways = [self._pass(reader, target_writer), self._pass(target_reader, writer)]
            tasks = [asyncio.ensure_future(way) for way in ways]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            self._ends.discard(target_writer)
            target_writer.transport.abort()

    async def _open_target(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to a target that answers, in random order, as a balancer does. Raises `OSError` if none answers."""
        for host, port in self._jitter.sample(self.targets, len(self.targets)):
            with contextlib.suppress(OSError):
                return await asyncio.open_connection(host, port)
        raise ConnectionRefusedError("no target answers")

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in itertools.count():
            piece = await reader.read(PIECE)
            if not piece:
                return
            if self.delay:
                await asyncio.sleep(self.delay)
            await self._flowing.wait()
            writer.write(piece)
            await writer.drain()
