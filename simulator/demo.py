"""The demo: a new receiver, a scenario over real HTTP, and the check that the receiver's mirror is right."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from simulator.clock import RunningClock
from simulator.convergence import Comparison, compare, read_mirror
from simulator.delivery import Courier, Log
from simulator.progress import progress
from simulator.receiver_process import Receiver, ReceiverFailedError, free_port, receiving
from simulator.report import SourceReport
from simulator.rng import Rng
from simulator.run import build, couriers, hook_url, play, prepare
from simulator.scenario import Scenario
from simulator.server import serving
from simulator.settings import settings_text
from simulator.stats import EMPTY, SourceStats, read_stats, recounted
from simulator.systems import SYSTEMS
from simulator.systems.base import System

#: Seconds without a finished delivery after which waiting for the receiver fails.
STUCK = 90.0

OnReports = Callable[[Sequence[SourceReport]], None]


async def run_demo(scenario: Scenario, *, seed: int, console: Console, stay: bool, on_reports: OnReports) -> bool:
    """Play the scenario against a new receiver, report, and return whether all is right. Raises `ReceiverFailedError`.

    With `stay`, the receiver runs on after the report until the task is cancelled.
    """
    clock = RunningClock(speed=scenario.speed)
    systems = build(list(SYSTEMS), seed=seed, clock=clock)
    port = free_port()
    for system in systems:
        system.subscribe(hook_url(f"http://127.0.0.1:{port}/hooks", system.source))
    prepare(systems, scenario)
    with tempfile.TemporaryDirectory(prefix="hookmirror-demo-") as directory:
        async with serving(systems) as api:
            settings = settings_text(systems, api=api)
            key = Rng(f"{seed} secret key").token(48)
            async with receiving(directory=Path(directory), port=port, settings=settings, secret_key=key) as receiver:
                reports = await play_against(receiver, systems, scenario, seed=seed, clock=clock, console=console)
                on_reports(reports)
                if stay:
                    await look_around(receiver, console)
    return all(report.good for report in reports)


async def play_against(
    receiver: Receiver,
    systems: Sequence[System],
    scenario: Scenario,
    *,
    seed: int,
    clock: RunningClock,
    console: Console,
) -> list[SourceReport]:
    """Send all messages, wait until the receiver has no pending delivery, and compare."""
    async with (
        api_client(receiver.url, receiver.token) as client,
        couriers(systems, scenario=scenario, seed=seed, clock=clock) as sending,
    ):
        async with progress(console, sending, client):
            began = time.monotonic()
            await watched(receiver, play(systems, scenario=scenario, seed=seed, couriers=sending, clock=clock))
            seconds = time.monotonic() - began
            await settled(receiver, client)
            stats = await recounted(client)
        return [await report(client, system, sending[system.source], stats, seconds) for system in systems]


def api_client(url: str, token: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60, trust_env=False)


async def watched(receiver: Receiver, work: Coroutine[Any, Any, None]) -> None:
    """Do the work, and stop it if the receiver ends. Raises `ReceiverFailedError` in that case."""
    task = asyncio.create_task(work)
    death = asyncio.create_task(receiver.process.wait())
    try:
        await asyncio.wait({task, death}, return_when=asyncio.FIRST_COMPLETED)
        receiver.check()
        await task
    finally:
        task.cancel()
        death.cancel()
        await asyncio.gather(task, death, return_exceptions=True)


async def settled(receiver: Receiver | None, client: httpx.AsyncClient) -> None:
    """Wait until no delivery is pending. Raises `ReceiverFailedError` if no delivery finishes for `STUCK` seconds.

    `receiver` is None if the simulator did not start it.
    """
    finished, moved = -1, time.monotonic()
    while True:
        if receiver is not None:
            receiver.check()
        stats = await read_stats(client)
        if not any(source.open for source in stats.values()):
            return
        now = sum(source.finished for source in stats.values())
        if now != finished:
            finished, moved = now, time.monotonic()
        if time.monotonic() - moved > STUCK:
            waiting = ", ".join(f"{source} {entry.open}" for source, entry in stats.items() if entry.open)
            raise ReceiverFailedError(
                f"No delivery was finished for {STUCK:.0f} s, and these are pending: {waiting}. Does a worker run?"
            )
        await asyncio.sleep(0.2)


async def report(
    client: httpx.AsyncClient, system: System, courier: Courier, stats: Mapping[str, SourceStats], seconds: float
) -> SourceReport:
    found = stats.get(system.source, EMPTY)
    return SourceReport(
        source=system.source,
        events=system.events,
        log=courier.log,
        outcomes=found.outcomes,
        states=found.states,
        seconds=seconds,
        comparison=await compared(client, system, courier.log),
    )


async def compared(client: httpx.AsyncClient, system: System, log: Log) -> Comparison:
    """Compare the system's catalog with the receiver's mirror of it as it is now. Raises httpx.HTTPError."""
    mirror = await read_mirror(client, system.source)
    return compare(system.oracle, mirror, arrived=log.arrived, listed=system.listed)


async def look_around(receiver: Receiver, console: Console) -> None:
    """Keep the receiver running until Ctrl-C, and print the addresses of its console and its API."""
    console.print("\nThe receiver runs until Ctrl-C. A link to its console, valid once and for ten minutes:")
    console.print(await receiver.link(), soft_wrap=True, markup=False, highlight=False)
    console.print("A request to its API:")
    curl = f"curl -H 'Authorization: Bearer {receiver.token}' '{receiver.url}/api/v1/catalog/products?limit=3'"
    console.print(curl, soft_wrap=True, markup=False, highlight=False)
    with contextlib.suppress(asyncio.CancelledError):
        await receiver.process.wait()
        receiver.check()
