"""Helpers of the acceptance tests: many accounts play scenarios against one receiver, and the outcomes are kept."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from forked import Forked
from longer_limits import PATIENT
from ports import free_port
from serving import token
from templates import copy_tables_to, installed_file
from waiting import TIMEOUT

from receiver import codec
from receiver.api.tokens import Scope
from simulator.clock import Clock, RunningClock
from simulator.convergence import compare, read_mirror
from simulator.delivery import Log
from simulator.demo import api_client, settled
from simulator.receiver_process import Receiver, environment_for, wait_ready
from simulator.report import SourceReport
from simulator.run import couriers, hook_url, play, prepare
from simulator.scenario import Scenario, load
from simulator.server import serving
from simulator.settings import settings_text
from simulator.stats import recounted
from simulator.systems import SYSTEMS
from simulator.systems.base import System

#: Events of one seed over the four systems, and the speed of its clock. Small, so that there can be many seeds.
EVENTS, SPEED = 80, 300.0

#: Seeds whose accounts play at the same time.
AT_ONCE = 4

KEY = "secret-key-of-the-acceptance-tests"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one account."""

    system: System
    report: SourceReport
    #: The account's deliveries as the receiver's API lists them.
    deliveries: list[dict[str, Any]]
    #: The duplicates that the receiver's statistics count for the account.
    duplicates: int

    @property
    def log(self) -> Log:
        return self.report.log


class Turn:
    """A clock that stands still until its scenario is played."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self._made = datetime.now(UTC)
        self._running: RunningClock | None = None

    def begin(self) -> None:
        self._running = RunningClock(speed=self.speed)

    def now(self) -> datetime:
        return self._made if self._running is None else self._running.now()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds) / self.speed)


class Play:
    """A scenario with its own accounts, by seed."""

    def __init__(self, scenario: Scenario, seeds: Iterable[int]) -> None:
        self.scenario = scenario.changed(events=EVENTS, rate=0, speed=SPEED)
        self.clock = Turn(SPEED)
        self.systems = {
            seed: [account(dialect, seed, self.clock, name=f"{scenario.name}-{dialect}-{seed}") for dialect in SYSTEMS]
            for seed in seeds
        }

    @property
    def everybody(self) -> list[System]:
        return [system for each in self.systems.values() for system in each]

    async def run(self) -> dict[str, Log]:
        """Play it to its end, and return the logs of its couriers by source."""
        gate = asyncio.Semaphore(AT_ONCE)
        self.clock.begin()

        async def play_one(seed: int) -> dict[str, Log]:
            given = {"scenario": self.scenario, "seed": seed, "clock": self.clock}
            async with gate, couriers(self.systems[seed], **given) as sending:
                await play(self.systems[seed], **given, couriers=sending)
                return {source: courier.log for source, courier in sending.items()}

        played = await asyncio.gather(*(play_one(seed) for seed in self.systems))
        return {source: log for each in played for source, log in each.items()}


def account(dialect: str, seed: int, clock: Clock, *, name: str = "") -> System:
    """Make an account named for its system and seed, unless it gets another name.

    Accounts of sticky.io with different seeds have different ciphers.
    """
    ciphers = ("aes-256-cbc", "aes-256-gcm", "openssl-salted", "aes-256-ecb", "auto")
    options: dict[str, Any] = {"cipher": ciphers[seed % len(ciphers)]} if dialect == "sticky" else {}
    return SYSTEMS[dialect](name or f"{dialect}-{seed}", seed=seed, clock=clock, size=12, **options)


@asynccontextmanager
async def receiving(
    folder: Path, *, port: int, settings: str, database_url: str | None = None
) -> AsyncIterator[Receiver]:
    """Run a receiver as the simulator does, with its imports already done. The database has its tables."""
    (folder / "hookmirror.toml").write_text(settings)
    environment = environment_for(folder, KEY)
    if database_url is not None:
        environment["HOOKMIRROR_DATABASE_URL"] = database_url
    copy_tables_to(environment["HOOKMIRROR_DATABASE_URL"], installed_file)
    url, log = f"http://127.0.0.1:{port}", folder / "receiver.log"
    with Forked(["serve", "--port", str(port)], folder, environment, log=log, before=PATIENT) as process:
        try:
            await wait_ready(url, process, log)
            yield Receiver(url, token(Scope.OPERATE, keys=[KEY]), process, log, environment)
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait, TIMEOUT)


@asynccontextmanager
async def receiver_for(plays: Sequence[Play], database_url: str | None):
    """Serve the APIs of all accounts, and run a receiver that has all of them as sources."""
    port = free_port()
    for each in plays:
        for system in each.everybody:
            system.subscribe(hook_url(f"http://127.0.0.1:{port}/hooks", system.source))
        prepare(each.everybody, each.scenario)
    everybody = [system for each in plays for system in each.everybody]
    with tempfile.TemporaryDirectory(prefix="hookmirror-acceptance-") as directory:
        async with serving(everybody) as api:
            settings = settings_text(everybody, api=api)
            async with receiving(Path(directory), port=port, settings=settings, database_url=database_url) as receiver:
                yield receiver


async def converge(
    seeds: Mapping[str, Iterable[int]], *, database_url: str | None = None
) -> dict[str, dict[str, Outcome]]:
    """Play the named scenarios in turn, each with its seeds, and return the outcomes by scenario and account.

    One receiver serves all of them, because starting one takes as long as playing a scenario. It uses a SQLite file of
    its own, unless `database_url` names another database.
    """
    plays = [Play(load(scenario), chosen) for scenario, chosen in seeds.items()]
    async with receiver_for(plays, database_url) as receiver:
        logs = {source: log for each in plays for source, log in (await each.run()).items()}
        async with api_client(receiver.url, receiver.token) as client:
            await settled(receiver, client)
            stats = await recounted(client)
            duplicates = await count_duplicates(client)
            return {
                each.scenario.name: {
                    f"{system.dialect}-{seed}": await outcome(client, system, logs[system.source], stats, duplicates)
                    for seed, systems in each.systems.items()
                    for system in systems
                }
                for each in plays
            }


async def outcome(client: httpx.AsyncClient, system: System, log: Log, stats, duplicates) -> Outcome:
    mirror = await read_mirror(client, system.source)
    report = SourceReport(
        source=system.source,
        events=system.events,
        log=log,
        states=stats[system.source].states,
        outcomes=stats[system.source].outcomes,
        comparison=compare(system.oracle, mirror, arrived=log.arrived, listed=system.listed),
    )
    return Outcome(system, report, await read_deliveries(client, system.source), duplicates[system.source])


async def count_duplicates(client: httpx.AsyncClient) -> dict[str, int]:
    answer = codec.decode((await client.get("/api/v1/stats")).content)
    return {entry["source"]: entry["duplicates"] for entry in answer["sources"]}


async def read_deliveries(client: httpx.AsyncClient, source: str) -> list[dict[str, Any]]:
    """Read all deliveries of a source through the receiver's API."""
    items: list[dict[str, Any]] = []
    cursor = None
    while True:
        query = {"source": source, "limit": "500", **({"cursor": cursor} if cursor else {})}
        answer = await client.get("/api/v1/deliveries", params=query)
        answer.raise_for_status()
        page = codec.decode(answer.content)
        items += page["items"]
        cursor = page["next"]
        if cursor is None:
            return items
