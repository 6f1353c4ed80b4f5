"""A run: random histories of several systems, played against receivers, each event at its moment."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from simulator.clock import Clock, sleep_until
from simulator.delivery import Courier
from simulator.faults import Fate
from simulator.scenario import Scenario
from simulator.systems import SYSTEMS
from simulator.systems.base import System


def build(sources: Sequence[str], *, seed: int, clock: Clock) -> list[System]:
    """One account of each of these systems, named like the system."""
    return [SYSTEMS[source](source, seed=seed, clock=clock) for source in sources]


def hook_url(to: str, source: str) -> str:
    """Where the events of a source go: `{source}` in the URL is replaced, else the name is added to the path."""
    return to.replace("{source}", source) if "{source}" in to else f"{to.rstrip('/')}/{source}"


@asynccontextmanager
async def couriers(
    systems: Sequence[System], *, scenario: Scenario, seed: int, clock: Clock
) -> AsyncIterator[dict[str, Courier]]:
    """A courier for each system, sending to where its subscriptions point."""
    opened = {
        system.source: Courier(
            system.subscriptions[0].url,
            clock=clock,
            retries=system.retries,
            fate=Fate(scenario.faults, seed=seed, source=system.source),
        )
        for system in systems
    }
    try:
        yield opened
    finally:
        for courier in opened.values():
            await courier.close()


async def play(systems: Sequence[System], *, scenario: Scenario, couriers: Mapping[str, Courier], clock: Clock) -> None:
    """Live through the scenario: all histories at once, until every message is sent and every retry is over."""
    each, more = divmod(scenario.events, len(systems))
    shares = [each + (number < more) for number in range(len(systems))]
    step = scenario.speed * len(systems) / scenario.rate if scenario.rate else None
    begin = clock.now()
    async with asyncio.TaskGroup() as group:
        for system, events in zip(systems, shares, strict=True):
            if events:
                group.create_task(_play_one(system, events, couriers[system.source], clock, begin, step))


async def live(systems: Sequence[System], *, rate: float, clock: Clock) -> None:
    """Edit the catalogs for ever, so many edits a second over all, with nobody listening."""
    begin = clock.now()
    for number in itertools.count():
        moment = begin + timedelta(seconds=number * clock.speed / rate)
        await sleep_until(clock, moment)
        systems[number % len(systems)].step(moment)


async def _play_one(
    system: System, events: int, courier: Courier, clock: Clock, begin: datetime, step: float | None
) -> None:
    """With a step (seconds of the clock), the times of the events depend on nothing but the beginning."""
    while system.events < events:
        moment = clock.now() if step is None else begin + timedelta(seconds=system.events * step)
        await sleep_until(clock, moment)
        for change in system.step(moment):
            for message in system.messages(change):
                await courier.send(message)
    await courier.finish()
