"""A TCP proxy that can misbehave: it balances over several targets, cuts connections, and stops passing bytes on."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import Sequence

#: Bytes passed on at once.
PIECE = 65_536

Address = tuple[str, int]


class Proxy:
    """Listens on a port of its own. All its verbs are for the event loop that it was started in."""

    def __init__(self, targets: Sequence[Address], *, jitter: random.Random | None = None) -> None:
        self.targets = list(targets)
        self.port = 0
        #: Seconds that every piece waits on its way.
        self.delay = 0.0
        #: Connections that came in, and those now open.
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
        """Keep connections, accept new ones, and pass nothing on, as a network that swallows packets."""
        self._flowing.clear()

    def release(self) -> None:
        """Pass on again, what was held first."""
        self._flowing.set()

    def close_door(self) -> None:
        """Cut all connections, and every new one at once."""
        self._closed = True
        self.cut()

    def open_door(self) -> None:
        self._closed = False

    def cut(self) -> None:
        """End every connection, in the middle of whatever it is doing."""
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
            # Cancelled only when the proxy closes; the library would report that as an error of its own.
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
        """Of a target that answers, tried in any order, as a balancer does. Raises `OSError` if none does."""
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
