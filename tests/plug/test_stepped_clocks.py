"""Clocks that jump forward and back for all processes: nothing is lost, and nothing is applied twice."""

from __future__ import annotations

import asyncio
import random

import pytest
from killing import judge
from observing import acking, settled, until
from scene import staged

from receiver.inbox.ids import MOST_PROCESSES

#: Shifts a process's clocks by the seconds in the file `clock` of its folder, which is read each time.
SHIFTED = """
import datetime, pathlib, time, types
import receiver.ingest.admission, receiver.inbox.ids, receiver.api.routes, receiver.worker.worker

file = pathlib.Path("clock").absolute()

def offset():
    try:
        return float(file.read_text() or 0)
    except FileNotFoundError:
        return 0.0

class Shifted(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.now(tz) + datetime.timedelta(seconds=offset())

for module in (receiver.ingest.admission, receiver.api.routes, receiver.worker.worker):
    assert module.datetime is datetime.datetime
    module.datetime = Shifted

receiver.inbox.ids.time = types.SimpleNamespace(time_ns=lambda: time.time_ns() + int(offset() * 1e9))
"""

HOUR = 3_600.0


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def test_whichever_way_the_clocks_jump_each_delivery_has_its_effect_once(database):
    async def play() -> None:
        jitter = random.Random(7)
        async with staged(database, sabotage=SHIFTED) as scene:
            clock = scene.folder / "clock"
            async with scene.flowing():
                for _ in range(12):
                    await until(acking(scene), "acks")
                    replacement = clock.with_suffix(".new")
                    replacement.write_text(f"{jitter.uniform(-HOUR, HOUR)}")
                    replacement.rename(clock)
                clock.write_text(f"{2 * HOUR}")
                await until(acking(scene), "acks")
                await settled(scene)
            verdict = await judge(scene, [], seed=1, seconds=0)
            first, last = scene.ledger.rows("SELECT min(id), max(id) FROM deliveries")[0]
        assert verdict.good, "\n".join(verdict.lines())
        assert (last - first) / MOST_PROCESSES / 1e6 > 2 * HOUR, "the clocks did jump"

    asyncio.run(play())
