"""A run: random histories of several systems, played against receivers, with each event at its time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit, urlunsplit

from simulator.clock import Clock, sleep_until
from simulator.delivery import Courier
from simulator.fault_plan import FaultPlan, Stranger
from simulator.rng import Rng
from simulator.scenario import Scenario
from simulator.systems import SYSTEMS
from simulator.systems.base import Change, System

#: The time between two events of a burst, enough to tell them apart in systems that write milliseconds.
AT_ONCE = timedelta(milliseconds=1)


def build(sources: Sequence[str], *, seed: int, clock: Clock) -> list[System]:
    """Make an account of each of these systems, named like the system."""
    return [SYSTEMS[source](source, seed=seed, clock=clock) for source in sources]


def hook_url(to: str, source: str) -> str:
    """Return the URL for a source's events: its name replaces `{source}` in the URL, or is added to the path.

    Raises `ValueError` for text that is not a URL.
    """
    if "{source}" in to:
        return to.replace("{source}", source)
    parts = urlsplit(to)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{source}"))


def prepare(systems: Sequence[System], scenario: Scenario) -> None:
    """Prepare the secrets after a rotation, because a receiver's settings depend on them."""
    for system in systems:
        if scenario.faults.rotate:
            system.prepare_rotation()


@asynccontextmanager
async def couriers(
    systems: Sequence[System], *, scenario: Scenario, seed: int, clock: Clock, endless: bool = False
) -> AsyncIterator[dict[str, Courier]]:
    """Open a courier for each system, which sends to the URLs of its subscriptions."""
    shares = dict(zip((system.source for system in systems), split(scenario.events, len(systems)), strict=True))
    opened = {
        system.source: Courier(
            clock=clock,
            retries=system.retries,
            fault_plan=FaultPlan(
                scenario.faults,
                seed=seed,
                source=system.source,
                events=0 if endless else shares[system.source],
            ),
            on_attempt=system.logged,
        )
        for system in systems
    }
    try:
        yield opened
    finally:
        for courier in opened.values():
            await courier.close()


def split(whole: int, parts: int) -> list[int]:
    """Split a number into parts that differ by at most one."""
    each, more = divmod(whole, parts)
    return [each + (number < more) for number in range(parts)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The times of one source's events: `events` of them, of which `burst` in the middle happen at once."""

    begin: datetime
    events: int
    #: Seconds of the clock from one event to the next; None for full speed.
    step: float | None
    burst: int

    def moment(self, number: int) -> datetime | None:
        """Return the time of the event with this number, from 0; None for now. It depends only on the beginning."""
        if self.step is None:
            return None
        start = (self.events - self.burst) // 2
        inside = min(max(number - start, 0), self.burst)
        return self.begin + timedelta(seconds=(number - inside) * self.step) + inside * AT_ONCE


class Player:
    """Plays one system's history, and hands its messages to the courier."""

    def __init__(self, system: System, courier: Courier, scenario: Scenario, *, seed: int, clock: Clock) -> None:
        self._system = system
        self._courier = courier
        self._clock = clock
        self._faults = scenario.faults
        self._stranger = Stranger(system, scenario.faults, seed=seed)
        self._ties = Rng(f"{seed} {system.source} tie")
        self._skew = timedelta(seconds=scenario.faults.skew_seconds)

    async def play(self, pace: Pace) -> None:
        """Play until all events have happened, all messages are sent, and the last retry is over."""
        rotation = self._faults.rotate * pace.events
        while self._system.events < pace.events:
            if rotation and self._system.events >= rotation:
                self._system.rotate()
                rotation = 0
            due = pace.moment(self._system.events)
            if due is not None:
                await sleep_until(self._clock, due)
            await self.live_on(due or self._clock.now())
        await self._courier.finish()

    async def live_on(self, moment: datetime) -> None:
        """Make one edit, and send its messages and forgeries."""
        for change in self._edits(moment + self._skew):
            await self.announce(change)
        while self._system.outbox:
            await self._courier.send(self._system.outbox.popleft())

    async def announce(self, change: Change) -> None:
        for message in self._system.messages(change):
            await self._courier.send(message)
        for forgery in self._stranger.meet(change):
            await self._courier.send(forgery)

    def _edits(self, moment: datetime) -> Iterator[Change]:
        yield from self._system.step(moment)
        if self._ties.happens(self._faults.tie):
            yield from self._system.step(moment, tie=True)


async def play(
    systems: Sequence[System], *, scenario: Scenario, seed: int, couriers: Mapping[str, Courier], clock: Clock
) -> None:
    """Play the scenario, with the histories of all systems at the same time, until the last retry is over."""
    begin = clock.now()
    step = scenario.speed * len(systems) / scenario.rate if scenario.rate else None
    events, bursts = (split(whole, len(systems)) for whole in (scenario.events, scenario.faults.burst))
    async with asyncio.TaskGroup() as group:
        for system, count, burst in zip(systems, events, bursts, strict=True):
            player = Player(system, couriers[system.source], scenario, seed=seed, clock=clock)
            if count:
                pace = Pace(begin=begin, events=count, step=step, burst=min(burst, count))
                group.create_task(player.play(pace))


async def live(
    systems: Sequence[System], *, scenario: Scenario, seed: int, couriers: Mapping[str, Courier], clock: Clock
) -> None:
    """Edit the catalogs without end, at the scenario's rate over all systems, for the registered webhooks."""
    begin, rate = clock.now(), scenario.rate or 1
    players = [Player(system, couriers[system.source], scenario, seed=seed, clock=clock) for system in systems]
    for number in itertools.count():
        moment = begin + timedelta(seconds=number * clock.speed / rate)
        await sleep_until(clock, moment)
        await players[number % len(players)].live_on(moment)
