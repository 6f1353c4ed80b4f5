"""Live progress of a run: sent, acked, processed, freshness."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping

import httpx
from rich.console import Console
from rich.live import Live
from rich.table import Table

from simulator.delivery import Courier
from simulator.stats import EMPTY, SourceStats, read_stats

#: Seconds between two looks at the receiver, and between two lines where there is no terminal.
LOOK, LINE = 0.5, 3.0


@contextlib.asynccontextmanager
async def progress(
    console: Console, couriers: Mapping[str, Courier], client: httpx.AsyncClient | None
) -> AsyncIterator[None]:
    """Show the progress while the body runs: a table on a terminal; elsewhere a line now and then and at the end."""
    show = _table if console.is_terminal else _lines
    task = asyncio.create_task(show(console, couriers, client))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _table(console: Console, couriers: Mapping[str, Courier], client: httpx.AsyncClient | None) -> None:
    with Live(console=console, transient=True, auto_refresh=False) as live:
        while True:
            live.update(picture(couriers, await look(client)), refresh=True)
            await asyncio.sleep(LOOK)


async def _lines(console: Console, couriers: Mapping[str, Courier], client: httpx.AsyncClient | None) -> None:
    began = time.monotonic()

    async def say() -> None:
        told = line(couriers, await look(client))
        console.print(f"{time.monotonic() - began:.0f} s: {told}", highlight=False)

    try:
        while True:
            await asyncio.sleep(LINE)
            await say()
    finally:
        await say()


async def look(client: httpx.AsyncClient | None) -> dict[str, SourceStats]:
    if client is None:
        return {}
    with contextlib.suppress(httpx.HTTPError):
        return await read_stats(client)
    return {}


def line(couriers: Mapping[str, Courier], stats: Mapping[str, SourceStats]) -> str:
    """All sources together: what was sent and acked, and what the receiver says, if it says anything."""
    told = [
        f"{sum(courier.log.sent for courier in couriers.values())} sent",
        f"{sum(courier.log.acked for courier in couriers.values())} acked",
    ]
    if stats:
        told.append(f"{sum(found.finished for found in stats.values())} processed")
    oldest = max((found.freshness for found in stats.values() if found.freshness is not None), default=None)
    if oldest is not None:
        told.append(f"freshness {oldest:.2f} s")
    return ", ".join(told)


def picture(couriers: Mapping[str, Courier], stats: Mapping[str, SourceStats]) -> Table:
    table = Table("source", title="Sending")
    for heading in ("sent", "acked", "processed", "freshness"):
        table.add_column(heading, justify="right")
    for source, courier in couriers.items():
        found = stats.get(source, EMPTY)
        freshness = "–" if found.freshness is None else f"{found.freshness:.2f} s"
        table.add_row(source, str(courier.log.sent), str(courier.log.acked), str(found.finished), freshness)
    return table
