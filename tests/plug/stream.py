"""A stream of webhooks from the simulator, each sent again until it is acked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx

from simulator.clock import RunningClock
from simulator.convergence import Comparison, compare, read_mirror
from simulator.delivery import Courier
from simulator.fault_plan import FaultPlan
from simulator.faults import Faults
from simulator.oracle import Key
from simulator.run import Player, build, hook_url
from simulator.scenario import Scenario
from simulator.server import serving
from simulator.settings import settings_text
from simulator.systems import SYSTEMS
from simulator.systems.base import Attempt, RetryPolicy, refused

#: Some webhooks are sent twice, some out of order, and some acks are not seen.
FAULTS = Faults(duplicate=0.05, reorder=8, cut_after=0.02)

#: Seconds before a webhook without an ack is sent again, without a limit.
AGAIN = 0.3

#: Seconds of the systems' clocks in one real second. Two systems tell times by the second, so edits must lie apart.
SPEED = 60.0


class Stream:
    """The four systems, which together send `rate` events a second to one address."""

    def __init__(self, *, seed: int, rate: float) -> None:
        self._seed = seed
        self._rate = rate
        self._clock = RunningClock(speed=SPEED)
        self._systems = build(list(SYSTEMS), seed=seed, clock=self._clock)
        self._couriers: dict[str, Courier] = {}
        self._stopping = asyncio.Event()
        #: Times of the acks in seconds of Unix time.
        self.acks: list[float] = []
        #: Seconds that each answer other than 2xx took, by status.
        self.refusals: dict[int, list[float]] = {}
        #: The base URL of the systems' APIs.
        self._api = ""

    @asynccontextmanager
    async def sending(self, to: str) -> AsyncIterator[None]:
        """Run the couriers until the end of the block. `to` is the endpoint's address without a source."""
        scenario = Scenario(name="plug", title="", events=1, rate=self._rate, speed=SPEED, faults=FAULTS)
        policy = RetryPolicy(delays=(AGAIN * SPEED,) * 100_000, retried=refused)
        for system in self._systems:
            fault_plan = FaultPlan(FAULTS, seed=self._seed, source=system.source)
            self._couriers[system.source] = Courier(
                clock=self._clock, retries=policy, fault_plan=fault_plan, on_attempt=self._answered
            )
            for subscription in system.subscriptions:
                subscription.url = hook_url(to, system.source)
        self._players = [
            Player(system, self._couriers[system.source], scenario, seed=self._seed, clock=self._clock)
            for system in self._systems
        ]
        try:
            yield
        finally:
            for courier in self._couriers.values():
                await courier.close()

    @asynccontextmanager
    async def apis(self) -> AsyncIterator[str]:
        """Serve the systems' APIs until the end of the block, and give the settings that a receiver needs."""
        for system in self._systems:
            system.subscribe(hook_url("http://127.0.0.1:1/hooks", system.source))
        async with serving(self._systems) as api:
            yield settings_text(self._systems, api=api)

    async def flow(self) -> None:
        """Make and send events until `stop` is called; return when the last of them is acked."""
        begin, number = self._clock.now(), 0
        while not self._stopping.is_set():
            moment = begin + timedelta(seconds=number * SPEED / self._rate)
            await self._clock.sleep((moment - self._clock.now()).total_seconds())
            await self._players[number % len(self._players)].live_on(self._clock.now())
            number += 1
        for courier in self._couriers.values():
            await courier.finish()

    def stop(self) -> None:
        self._stopping.set()

    @property
    def events(self) -> dict[str, int]:
        """The number of events by source."""
        return {system.source: system.events for system in self._systems}

    @property
    def arrived(self) -> int:
        """The number of acked events."""
        return sum(len(courier.log.arrived) for courier in self._couriers.values())

    @property
    def kept(self) -> set[str]:
        """The ids in the receiver's acks."""
        return {each for courier in self._couriers.values() for each in courier.log.kept}

    @property
    def statuses(self) -> dict[int, int]:
        """The number of answers by status; 0 stands for no answer."""
        counted: dict[int, int] = {}
        for courier in self._couriers.values():
            for status, count in courier.log.statuses.items():
                counted[status] = counted.get(status, 0) + count
        return dict(sorted(counted.items()))

    @property
    def duplicates(self) -> int:
        return sum(courier.log.duplicates for courier in self._couriers.values())

    def compare(self, mirrors: Mapping[str, Mapping[Key, Mapping[str, Any]]]) -> list[Comparison]:
        """Compare the mirror's rows, by source, with the systems' own catalogs."""
        return [
            compare(
                system.oracle,
                mirrors[system.source],
                arrived=self._couriers[system.source].log.arrived,
                listed=system.listed,
            )
            for system in self._systems
        ]

    async def mirrors(self, client: httpx.AsyncClient) -> dict[str, dict[Key, dict[str, Any]]]:
        """Read the rows of each source through the API."""
        return {system.source: await read_mirror(client, system.source) for system in self._systems}

    def _answered(self, attempt: Attempt) -> None:
        if attempt.status is not None and 200 <= attempt.status < 300:
            self.acks.append(time.time())
        elif attempt.status is not None:
            self.refusals.setdefault(attempt.status, []).append(attempt.seconds)
