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

from receiver.errors import HookmirrorError
from simulator.delivery import Courier
from simulator.stats import EMPTY, SourceStats, read_stats

#: Seconds between two polls of the receiver, and between two lines of progress outside a terminal.
LOOK, LINE = 0.5, 3.0

#: Seconds that a poll may take. It is short because the end of a run waits for the last poll.
PROGRESS_TIMEOUT = 2.0


@contextlib.asynccontextmanager
async def progress(
    console: Console, couriers: Mapping[str, Courier], client: httpx.AsyncClient | None
) -> AsyncIterator[None]:
    """Show the progress while the block runs: a table on a terminal, elsewhere a line every `LINE` s and at the end."""
    began = time.monotonic()
    show = _table(console, couriers, client) if console.is_terminal else _lines(console, couriers, client, began)
    task = asyncio.create_task(show)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not console.is_terminal:
            _say(console, couriers, await look(client), began)


async def _table(console: Console, couriers: Mapping[str, Courier], client: httpx.AsyncClient | None) -> None:
    with Live(console=console, transient=True, auto_refresh=False) as live:
        while True:
            live.update(picture(couriers, await look(client)), refresh=True)
            await asyncio.sleep(LOOK)


async def _lines(
    console: Console, couriers: Mapping[str, Courier], client: httpx.AsyncClient | None, began: float
) -> None:
    while True:
        await asyncio.sleep(LINE)
        _say(console, couriers, await look(client), began)


def _say(console: Console, couriers: Mapping[str, Courier], stats: Mapping[str, SourceStats], began: float) -> None:
    console.print(f"{time.monotonic() - began:.0f} s: {line(couriers, stats)}", highlight=False)


async def look(client: httpx.AsyncClient | None) -> dict[str, SourceStats]:
    """Read the receiver's statistics. They are empty if the receiver does not answer in time, or has no statistics."""
    if client is None:
        return {}
    with contextlib.suppress(httpx.HTTPError, HookmirrorError, TimeoutError):
        async with asyncio.timeout(PROGRESS_TIMEOUT):
            return await read_stats(client)
    return {}


def line(couriers: Mapping[str, Courier], stats: Mapping[str, SourceStats]) -> str:
    """Sum up all sources in one line: messages sent and acked, and the receiver's statistics, if there are any."""
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
