"""A full disk: senders get 503, nothing is lost, and acks continue when there is room.

The system's limit on the size of files stands for the full disk. Writing beyond it fails in the same places; the limit
needs no rights, and can be lifted while the processes run.
"""

from __future__ import annotations

import asyncio
import resource
import subprocess
from collections.abc import Iterable

import psycopg
import pytest
from killing import judge
from observing import acking, refusing, settled, until
from scene import Scene, staged

#: Bytes beyond which no file can be written while the disk is "full".
FULL = 4_096


def limit(pids: Iterable[int], size: int) -> None:
    for pid in pids:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def processes(scene: Scene) -> list[int]:
    return [post.process.pid for post in scene.deployment.posts if post.process is not None]


def test_while_no_sqlite_file_can_grow_senders_get_503():
    async def play() -> None:
        async with staged("sqlite") as scene:
            async with scene.flowing():
                await until(acking(scene), "acks")
                limit(processes(scene), FULL)
                await until(refusing(scene), "a refusal")
                await asyncio.sleep(3)
                limit(processes(scene), resource.RLIM_INFINITY)
                await until(acking(scene), "acks when there is room again")
                await settled(scene)
            starts = [post.starts for post in scene.deployment.posts]
            verdict = await judge(scene, [], seed=1, seconds=0)
        assert verdict.good, "\n".join(verdict.lines())
        assert starts == [1] * 4

    asyncio.run(play())


@pytest.mark.long
def test_while_postgresql_cannot_write_senders_get_503():
    async def play() -> None:
        async with staged("postgresql") as scene:
            async with scene.flowing():
                await until(acking(scene), "acks")
                await asyncio.to_thread(scene.database.limit_files, FULL)
                await until(refusing(scene), "a refusal")
                await asyncio.sleep(3)
                await asyncio.to_thread(make_room, scene)
                await until(acking(scene), "acks when there is room again")
                await settled(scene)
            verdict = await judge(scene, [], seed=1, seconds=0)
        assert verdict.good, "\n".join(verdict.lines())

    asyncio.run(play())


def make_room(scene: Scene) -> None:
    """Lift the limit.

    A server that could not write its log has ended, and is started again, as its supervisor would do.
    """
    try:
        scene.database.limit_files(resource.RLIM_INFINITY)
        psycopg.connect(scene.database.server.url(), connect_timeout=5).close()
    except (OSError, subprocess.SubprocessError, psycopg.OperationalError):
        scene.database.server.kill()
        scene.database.restart()
