"""While the database is unreachable the endpoint answers 503 quickly; afterwards acks and workers continue."""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
from contextlib import closing

import pytest
from deployment import Deployment
from killing import judge
from observing import (
    AT_ONCE,
    ENDPOINT_TIMEOUT,
    LONG_WAITS,
    Held,
    acking,
    readiness,
    refusing,
    settled,
    told_at_once,
    until,
)
from scene import staged

#: Rounds of stop and start, after which the processes may use no more resources.
ROUNDS = 3


def test_when_postgresql_stops_and_starts_again_under_load_nothing_is_lost_and_nothing_leaks():
    async def play() -> None:
        # One read at a time needs one thread. With more, the count of threads would grow without a leak.
        settings = {"api_reads_at_once": 1}
        async with staged("postgresql", settings=settings, sabotage=LONG_WAITS) as scene:
            first: Held | None = None
            async with scene.flowing():
                for _ in range(ROUNDS):
                    await until(acking(scene), "acks")
                    refused = refusing(scene)
                    await asyncio.to_thread(scene.database.stop)
                    await until(refused, "a refusal")
                    await asyncio.sleep(1)
                    assert (await readiness(scene)).status_code == 503
                    await asyncio.to_thread(scene.database.restart)
                    await until(acking(scene), "acks after the database is back")
                    await settled(scene)
                    first = first or Held.by(scene.deployment)
                # Senders that waited have more connections for a while.
                await until(lambda: holds_no_more_than(first, scene.deployment), "the resources to be given back")
            starts = [post.starts for post in scene.deployment.posts]
            verdict = await judge(scene, [], seed=1, seconds=0)
        assert verdict.good, "\n".join(verdict.lines())
        assert starts == [1] * 4, "no process had to be started again"
        assert told_at_once(scene)

    asyncio.run(play())


async def holds_no_more_than(first: Held, deployment: Deployment) -> bool:
    now = await asyncio.to_thread(Held.by, deployment)
    no_more = (now.file_descriptors <= first.file_descriptors + 8, now.threads <= first.threads + 4)
    return all(no_more) and now.memory <= first.memory * 1.2


@pytest.mark.long
def test_while_another_program_holds_the_sqlite_file_the_endpoint_refuses_and_then_goes_on():
    async def play() -> None:
        async with staged("sqlite") as scene:
            held = []
            async with scene.flowing():
                for _ in range(2):
                    await until(acking(scene), "acks")
                    path = scene.database.url.removeprefix("sqlite:///")
                    with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as other:
                        other.execute("BEGIN IMMEDIATE")
                        await until(refusing(scene), "a refusal")
                        first = len(scene.stream.refusals[503])
                        await asyncio.sleep(6)
                        assert len(scene.stream.refusals[503]) > first, "senders are told, not kept waiting"
                        other.execute("COMMIT")
                    await until(acking(scene), "acks after the lock is gone")
                    await settled(scene)
                    held.append(Held.by(scene.deployment))
            verdict = await judge(scene, [], seed=1, seconds=0)
        assert verdict.good, "\n".join(verdict.lines())
        refusals = scene.stream.refusals[503]
        assert statistics.median(refusals) < AT_ONCE
        assert max(refusals) < ENDPOINT_TIMEOUT
        assert held[-1].file_descriptors <= held[0].file_descriptors + 8
        assert held[-1].threads <= held[0].threads + 4

    asyncio.run(play())
