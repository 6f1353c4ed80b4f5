"""A reconcile restores lost rows; the report names beforehand those that it can restore, and those that it cannot."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
from commanding import Folder
from converging import KEY, account, receiving
from ports import free_port
from waiting import wait_for_a_later_date

from simulator.clock import RunningClock
from simulator.convergence import compare, read_mirror
from simulator.demo import api_client, settled
from simulator.run import couriers, play
from simulator.scenario import Scenario
from simulator.server import serving
from simulator.settings import settings_text
from simulator.systems import SYSTEMS

#: More than half of the messages are lost. With fewer losses, later events could restore all of Sigma's rows.
LOSSES = Scenario(name="losses", title="Losses", events=240, rate=0, speed=300).changed(faults={"drop": 0.6})


@pytest.fixture(scope="module")
def comparisons():
    """Compare mirror and truth by system, before and after a reconcile."""
    return asyncio.run(lose_and_heal())


async def lose_and_heal():
    clock = RunningClock()
    systems = [account(dialect, 1, clock) for dialect in SYSTEMS]
    port = free_port()
    for system in systems:
        system.subscribe(f"http://127.0.0.1:{port}/hooks/{system.source}")
    with tempfile.TemporaryDirectory(prefix="hookmirror-acceptance-") as directory:
        folder = Path(directory)
        async with serving(systems) as api:
            settings = settings_text(systems, api=api)
            async with (
                receiving(folder, port=port, settings=settings) as receiver,
                couriers(systems, scenario=LOSSES, seed=1, clock=clock) as sending,
                api_client(receiver.url, receiver.token) as client,
            ):
                await play(systems, scenario=LOSSES, seed=1, couriers=sending, clock=clock)
                await settled(receiver, client)
                await asyncio.to_thread(wait_for_a_later_date, api)
                found = {system.dialect: [await look(client, system, sending)] for system in systems}
                for system in systems:
                    if system.listed:
                        await reconcile(folder, system.source)
                        found[system.dialect].append(await look(client, system, sending))
                return found


async def look(client, system, sending):
    """Return the comparison that a user sees, which counts only what arrived, and the comparison with everything."""
    mirror = await read_mirror(client, system.source)
    told = compare(system.oracle, mirror, arrived=sending[system.source].log.arrived, listed=system.listed)
    whole = compare(system.oracle, mirror, arrived=None, listed=system.listed)
    return told, whole


async def reconcile(folder, source):
    installation = Folder(folder, settings="", environment={"HOOKMIRROR_SECRET_KEY": KEY})
    done = await asyncio.to_thread(installation.run, "reconcile", source, "--force")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("dialect", SYSTEMS)
def test_every_difference_is_reported_as_lost_before_a_reconcile(comparisons, dialect):
    told, whole = comparisons[dialect][0]
    assert told.equal
    lost = {(each.table, each.external_id) for each in whole.differences}
    assert lost
    assert {f"{table} {name}" for table, name in lost} == {*told.rows_to_reconcile, *told.rows_beyond}


@pytest.mark.parametrize("dialect", [dialect for dialect in SYSTEMS if SYSTEMS[dialect].listed])
def test_a_reconcile_repairs_the_rows_that_the_report_names(comparisons, dialect):
    """Except columns that only events carry: their `data`, and Sigma's state, which has another id in the list."""
    told, whole = comparisons[dialect][1]
    assert told.equal
    carried = ("data", "lifecycle_state")
    healable = [
        each for each in whole.differences if each.table in SYSTEMS[dialect].listed and each.column not in carried
    ]
    assert [str(each) for each in healable] == []


def test_indexed_has_no_list_so_that_nothing_can_be_reconciled(comparisons):
    """No API of Indexed is known that lists its rows (docs/sources.md)."""
    told, _ = comparisons["indexed"][0]
    assert told.rows_beyond
    assert told.rows_to_reconcile == []
