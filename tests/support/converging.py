"""Helpers of the acceptance tests: many accounts play a scenario against one receiver, and the outcomes are kept."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from receiver import codec
from simulator.clock import RunningClock
from simulator.convergence import compare, read_mirror
from simulator.delivery import Log
from simulator.demo import api_client, settled
from simulator.receiver_process import free_port, receiving
from simulator.report import SourceReport
from simulator.run import couriers, hook_url, play, prepare
from simulator.scenario import Scenario
from simulator.server import serving
from simulator.settings import settings_text
from simulator.systems import SYSTEMS
from simulator.systems.base import System

#: Events of one seed over the four systems, and the speed of its clock. Small, so that there can be many seeds.
EVENTS, SPEED = 120, 300.0

#: Seeds whose accounts play at the same time.
AT_ONCE = 4


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


def account(dialect: str, seed: int, clock: RunningClock) -> System:
    """Make an account named for its system and seed.

    Accounts of sticky.io with different seeds have different ciphers.
    """
    ciphers = ("aes-256-cbc", "aes-256-gcm", "openssl-salted", "aes-256-ecb", "auto")
    options: dict[str, Any] = {"cipher": ciphers[seed % len(ciphers)]} if dialect == "sticky" else {}
    return SYSTEMS[dialect](f"{dialect}-{seed}", seed=seed, clock=clock, size=12, **options)


@asynccontextmanager
async def accounts_and_receiver(scenario: Scenario, seeds, database_url: str | None):
    """Make the accounts of all seeds, serve their APIs, and run a receiver that has all of them as sources."""
    clock = RunningClock(speed=scenario.speed)
    systems = {seed: [account(dialect, seed, clock) for dialect in SYSTEMS] for seed in seeds}
    everybody = [system for each in systems.values() for system in each]
    port = free_port()
    for system in everybody:
        system.subscribe(hook_url(f"http://127.0.0.1:{port}/hooks", system.source))
    prepare(everybody, scenario)
    with tempfile.TemporaryDirectory(prefix="hookmirror-acceptance-") as directory:
        async with serving(everybody) as api:
            settings = settings_text(everybody, api=api)
            key = "secret-key-of-the-acceptance-tests"
            async with receiving(
                directory=Path(directory), port=port, settings=settings, secret_key=key, database_url=database_url
            ) as receiver:
                yield systems, receiver, clock


async def converge(scenario: Scenario, seeds, *, database_url: str | None = None) -> dict[str, Outcome]:
    """Play the scenario with every seed against one receiver, and return the outcomes by account.

    The receiver uses a SQLite file of its own, unless `database_url` names another database.
    """
    scenario = scenario.changed(events=EVENTS, rate=0, speed=SPEED)
    outcomes: dict[str, Outcome] = {}
    async with accounts_and_receiver(scenario, seeds, database_url) as (systems, receiver, clock):
        gate = asyncio.Semaphore(AT_ONCE)

        async def play_one(seed: int) -> dict[str, Log]:
            async with gate, couriers(systems[seed], scenario=scenario, seed=seed, clock=clock) as sending:
                await play(systems[seed], scenario=scenario, seed=seed, couriers=sending, clock=clock)
                return {source: courier.log for source, courier in sending.items()}

        played = await asyncio.gather(*(play_one(seed) for seed in seeds))
        async with api_client(receiver.url, receiver.token) as client:
            stats = await settled(receiver, client)
            duplicates = await count_duplicates(client)
            logs = {source: log for each in played for source, log in each.items()}
            for system in (system for each in systems.values() for system in each):
                found = await outcome(client, system, logs[system.source], stats, duplicates)
                outcomes[system.source] = found
    return outcomes


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
