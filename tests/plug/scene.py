"""Everything that a run needs, set up and torn down: a database, processes on it, a balancer, and a stream."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from databases import PostgresqlServer, SqliteFile
from deployment import Deployment
from feed import Consumer
from forking import shared_forking
from ledger import Ledger
from proxy import Proxy
from sqlalchemy import make_url
from stream import Stream

#: Settings of every process. The lease is short, so that deliveries are reclaimed both by the name of a dead worker and
#: by the end of a lease. There are many attempts, because several workers with the same delivery may be killed, which
#: is not the delivery's fault.
SETTINGS = {"lease_seconds": 5, "max_attempts": 100}

#: Webhooks a second, unless a run says otherwise. While senders are refused, each webhook is sent again three times a
#: second, so that a higher rate mostly means more refusals.
RATE = 25.0

#: Seconds without progress after which the rest of the backlog counts as stuck.
DRAIN = 45.0


@dataclass(frozen=True, slots=True)
class Scene:
    folder: Path
    database: SqliteFile | PostgresqlServer
    deployment: Deployment
    ledger: Ledger
    stream: Stream
    consumer: Consumer
    #: The proxy in front of the endpoints.
    balancer: Proxy
    #: The proxy between the processes and PostgreSQL.
    network: Proxy | None

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """Send webhooks and follow the change feed during the block.

        At the end, every webhook is acked, every delivery has ended or had its time, and the feed is read to its end.
        """
        flow, follow = asyncio.create_task(self.stream.flow()), asyncio.create_task(self.consumer.run())
        try:
            yield
            self.stream.stop()
            await flow
            await self._drain()
            self.consumer.finish()
            await follow
        finally:
            for task in (flow, follow):
                task.cancel()
            await asyncio.gather(flow, follow, return_exceptions=True)

    async def _drain(self) -> None:
        fewest, moved = await asyncio.to_thread(self.ledger.open), time.monotonic()
        while fewest and time.monotonic() - moved < DRAIN:
            await asyncio.sleep(0.1)
            left = await asyncio.to_thread(self.ledger.open)
            if left < fewest:
                fewest, moved = left, time.monotonic()


@asynccontextmanager
async def staged(
    name: str,
    *,
    seed: int = 1,
    rate: float = RATE,
    endpoints: int = 2,
    workers: int = 2,
    settings: Mapping[str, Any] | None = None,
    sabotage: str = "",
    with_network: bool = False,
) -> AsyncIterator[Scene]:
    """Run endpoints and workers until the end of the block, on ports and in a folder of their own.

    With `with_network`, their connections to PostgreSQL go through a proxy.
    """
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hookmirror-plug-")))
        forking = await asyncio.to_thread(shared_forking)
        database = SqliteFile(folder) if name == "sqlite" else PostgresqlServer()
        stack.callback(database.remove)
        await asyncio.to_thread(database.start)
        network = await _network(stack, database) if with_network else None
        url = make_url(database.url).set(port=network.port) if network else make_url(database.url)
        stream = Stream(seed=seed, rate=rate)
        deployment = Deployment(
            forking,
            folder,
            url.render_as_string(hide_password=False),
            await stack.enter_async_context(stream.apis()),
            endpoints=endpoints,
            workers=workers,
            settings={**SETTINGS, **(settings or {})},
            sabotage=sabotage,
        )
        await asyncio.to_thread(deployment.migrate)
        ledger = Ledger(database.url)
        await asyncio.to_thread(ledger.install)
        await stack.enter_async_context(deployment)
        balancer = await stack.enter_async_context(Proxy(deployment.addresses, jitter=random.Random(seed)))
        await stack.enter_async_context(stream.sending(f"http://127.0.0.1:{balancer.port}/hooks"))
        consumer = Consumer(balancer, deployment.headers)
        yield Scene(folder, database, deployment, ledger, stream, consumer, balancer, network)


async def _network(stack: AsyncExitStack, database: SqliteFile | PostgresqlServer) -> Proxy:
    assert isinstance(database, PostgresqlServer), "only PostgreSQL is reached by a network"
    return await stack.enter_async_context(Proxy([("127.0.0.1", database.server.port)]))
