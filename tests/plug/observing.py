"""Conditions that a test waits for while a scene runs, and the resources that its processes use."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx
from deployment import Deployment
from scene import Scene

#: Seconds within which the endpoint must refuse while another program holds its database.
AT_ONCE = 1.0

#: Seconds of the endpoint's waits for its database with `LONG_WAITS`: longer than a machine stands still, and less than
#: a sender waits for its answer.
LONG = 25

#: Python code that makes these waits as long, so that an answer shows whether it came after one: for a commit, and for
#: a connection.
LONG_WAITS = f"""
from receiver.database import engines
from receiver.ingest import gathering
gathering.COMMIT_TIMEOUT = engines.CONNECT_ARGUMENTS["postgresql"]["connect_timeout"] = {LONG}
"""

#: Seconds that the endpoint waits for a commit, including its timer's delay (receiver/ingest/group_commit.py).
ENDPOINT_TIMEOUT = 13.0

Condition = Callable[[], Awaitable[bool]]


@dataclass(frozen=True)
class Held:
    """Resources that the processes use, summed over all of them."""

    file_descriptors: int
    threads: int
    memory: int

    @classmethod
    def by(cls, deployment: Deployment) -> Held:
        processes = [post.process for post in deployment.posts if post.process is not None]
        return cls(
            sum(process.file_descriptors() for process in processes),
            sum(process.threads() for process in processes),
            sum(process.memory() for process in processes),
        )


async def until(condition: Condition, what: str, seconds: float = 120.0) -> None:
    """Wait until the condition is true. Fails after this many seconds."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.05)


def refusing(scene: Scene) -> Condition:
    """Make a condition that is true after another 503."""
    before = len(scene.stream.refusals.get(503, []))

    async def condition() -> bool:
        return len(scene.stream.refusals.get(503, [])) > before

    return condition


def told_at_once(scene: Scene) -> bool:
    """Whether senders were refused without a wait for the database, in a scene with `LONG_WAITS`."""
    return max(scene.stream.refusals[503]) < 0.8 * LONG


def acking(scene: Scene) -> Condition:
    """Make a condition that is true after 20 more acks."""
    before = len(scene.stream.acks)

    async def condition() -> bool:
        return len(scene.stream.acks) > before + 20

    return condition


async def settled(scene: Scene) -> None:
    """Wait until the workers have caught up."""

    async def none_open() -> bool:
        return await asyncio.to_thread(scene.ledger.open) < 20

    await until(none_open, "the backlog to drain")


async def readiness(scene: Scene) -> httpx.Response:
    async with scene.deployment.client() as client:
        return await client.get("/readyz")
