"""A pytest fixture for the tests of any receiver: it starts a system, edits its catalog and waits for delivery.

    def test_a_price_reaches_us(simulated, receiver):
        shop = simulated.start("iimmpact", to=receiver.url)
        lamp = shop.create(kind="product", display_name="Lamp")
        shop.update(lamp, display_name="Better lamp")
        assert shop.wait().acked == shop.events

The messages go over real HTTP, and the receiver need not be Hookmirror. docs/simulator.md has an example.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import pytest

from simulator.clock import RunningClock
from simulator.convergence import Comparison, compare
from simulator.delivery import Courier, Log
from simulator.fault_plan import FaultPlan, Stranger
from simulator.faults import Faults
from simulator.oracle import Key
from simulator.server import api_url, serving
from simulator.systems import SYSTEMS
from simulator.systems.base import Change, Message, System, floor

T = TypeVar("T")

#: Seconds that a single call may take.
CALL_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Entity:
    """One entity of the catalog, and its row in a mirror."""

    family: str
    table: str
    external_id: str


class SimulatedSystem:
    """A system that a test has started. An edit returns before its messages are delivered; `wait` waits for them."""

    def __init__(self, simulated: Simulated, system: System, courier: Courier, stranger: Stranger, url: str) -> None:
        self._simulated = simulated
        self._courier = courier
        self._stranger = stranger
        self._last: datetime | None = None
        #: The system itself, with its oracle, its subscriptions and its secrets.
        self.system = system
        #: The base URL of its API.
        self.api_url = url

    @property
    def events(self) -> int:
        """The number of events that the system has announced."""
        return self.system.events

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that a receiver needs: secrets, keys and the API's URL, under Hookmirror's names."""
        return self.system.settings(api_url=self.api_url)

    def create(self, **attributes: Any) -> Entity:
        """Create an entity, with invented values for other attributes. Raises ValueError for an unknown attribute."""
        changes = self._announce(self.system.create(self._now(), **attributes))
        family = changes[-1].family
        return Entity(family, *self.system.key(family))

    def update(self, entity: Entity, **attributes: Any) -> None:
        self._announce(self.system.alter(entity.family, self._now(), **attributes))

    def delete(self, entity: Entity) -> None:
        self._announce(self.system.erase(entity.family, self._now()))

    def live(self, events: int) -> None:
        """Run a random history until `events` more events have happened."""
        goal = self.events + events
        while self.events < goal:
            self._announce(self.system.step(self._now()))

    def rotate(self) -> None:
        """Replace the secrets. Afterwards `settings` holds only the new ones."""
        self.system.rotate()

    def send(self, *messages: Message) -> None:
        """Send messages that the test made, such as forgeries."""
        for message in messages:
            self._simulated.run(self._courier.send(message))

    def wait(self, seconds: float = CALL_TIMEOUT) -> Log:
        """Wait until every message is delivered or given up, after its retries. Raises TimeoutError."""
        self._simulated.run(self._finish(), seconds)
        return self._courier.log

    def compare(self, rows: Mapping[Key, Mapping[str, Any]]) -> Comparison:
        """Compare rows, by (table, external id), with what the system announced."""
        return compare(self.system.oracle, rows, arrived=self._courier.log.arrived, listed=self.system.listed)

    def _now(self) -> datetime:
        """Return a time later than every earlier edit of this system: now, or one tick after the last edit."""
        step = self.system.resolution
        moment = floor(self.system.clock.now(), step)
        self._last = moment if self._last is None else max(moment, self._last + step)
        return self._last

    def _announce(self, changes: list[Change]) -> list[Change]:
        for change in changes:
            self.send(*self.system.messages(change), *self._stranger.meet(change))
        return changes

    async def _finish(self) -> None:
        while self.system.outbox:
            await self._courier.send(self.system.outbox.popleft())
        await self._courier.finish()


class Simulated:
    """Starts systems in a thread of its own, and stops them at the end of the test."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="simulator", daemon=True)
        self._stack = AsyncExitStack()
        self._thread.start()

    def start(
        self,
        dialect: str,
        *,
        to: str,
        source: str | None = None,
        seed: int = 1,
        speed: float = 600.0,
        faults: Faults | None = None,
        **options: Any,
    ) -> SimulatedSystem:
        """Start an account of a system that sends all its events to the URL `to`.

        `speed` is the speed of the retries: with 600, a retry due in 300 s comes after half a second. `options` are
        arguments of the system: `signed` (sigma), `cipher` (sticky), `size`. Raises ValueError for an unknown system.
        """
        if dialect not in SYSTEMS:
            raise ValueError(f"there is no system {dialect!r}: choose from {', '.join(SYSTEMS)}")
        system = SYSTEMS[dialect](source or dialect, seed=seed, clock=RunningClock(), **options)
        system.subscribe(to)
        return self.run(self._start(system, faults or Faults(), seed=seed, speed=speed))

    def run(self, work: Coroutine[Any, Any, T], seconds: float = CALL_TIMEOUT) -> T:
        """Do the work in the simulator's thread, and wait for its result. Raises TimeoutError."""
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, seconds), self._loop).result()

    def close(self) -> None:
        self.run(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self, system: System, faults: Faults, *, seed: int, speed: float) -> SimulatedSystem:
        courier = Courier(
            clock=RunningClock(speed=speed),
            retries=system.retries,
            fault_plan=FaultPlan(faults, seed=seed, source=system.source),
            on_attempt=system.logged,
        )
        self._stack.push_async_callback(courier.close)
        base = await self._stack.enter_async_context(serving([system]))
        return SimulatedSystem(self, system, courier, Stranger(system, faults, seed=seed), api_url(base, system))


@pytest.fixture
def simulated() -> Iterator[Simulated]:
    """Start simulated systems that send to the test's receiver, with `Simulated.start`, and stop them at the end."""
    running = Simulated()
    yield running
    running.close()
