"""Reads with a bounded number and bounded time of their statements."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Hashable
from contextlib import closing
from itertools import count
from types import SimpleNamespace

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, insert, text
from sqlalchemy.exc import SQLAlchemyError

from receiver.api import reads as module
from receiver.api.read_budget import ReadBudget
from receiver.api.reads import WAITING_FOR_EACH, Reads
from receiver.daemon_threads import DaemonThreads
from receiver.database.database import Database
from receiver.database.errors import is_overdue
from receiver.errors import Unavailable
from receiver.search import windows

#: A statement that runs until it is ended, on either system.
FOREVER = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"

#: Seconds that nothing takes unless it is broken.
BOUND = 20.0


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    """Let reads wait for longer than a machine stands still, except where a test sets a limit."""
    for limit in ("LONGEST_WAIT", "GRACE"):
        monkeypatch.setattr(module, limit, BOUND)


@pytest.fixture
def database(mirror_url):
    with closing(Database(mirror_url)) as opened:
        yield opened


def test_a_statement_beyond_its_time_is_ended(database):
    beside = database.beside(connections=1, seconds=0.2)
    with beside.read() as connection, pytest.raises(SQLAlchemyError) as raised:
        connection.execute(text(FOREVER))
    assert is_overdue(raised.value)


def test_a_connection_works_after_its_statement_was_ended(database):
    beside = database.beside(connections=1, seconds=0.2)
    with beside.read() as connection, pytest.raises(SQLAlchemyError):
        connection.execute(text(FOREVER))
    time.sleep(0.2)
    for _ in range(2):
        with beside.read() as connection:
            assert connection.execute(text("SELECT 1")).scalar_one() == 1


def test_reads_have_connections_that_no_other_part_uses(database):
    beside = database.beside(connections=1)
    with database.read() as first, beside.read() as second, database.beside(connections=1).read() as third:
        drivers = {id(each.connection.driver_connection) for each in (first, second, third)}
    assert len(drivers) == 3


def test_closing_the_database_closes_the_connections_of_reads(database):
    beside = database.beside(connections=1)
    with beside.read():
        pass
    database.close()
    assert beside.engine.pool.checkedin() == 0


def test_a_second_set_of_connections_shares_checkpoints_and_writer_turns(tmp_path):
    with closing(Database(f"sqlite:///{tmp_path / 'hookmirror.db'}")) as database:
        beside = database.beside(connections=1)
        database.look_after()
        assert beside._care.checkpoints is database._care.checkpoints is not None
        assert beside._writer is database._writer


def test_a_read_waits_for_its_turn_and_gets_it():
    reads = Reads(at_once=1, seconds=BOUND)

    async def ask() -> list[int]:
        return await asyncio.gather(*(reads.run(lambda number=number: number) for number in range(8)))

    assert asyncio.run(ask()) == list(range(8))
    reads.close()


def test_more_reads_than_may_wait_are_refused_at_once():
    reads, gate = Reads(at_once=1, seconds=BOUND), threading.Event()

    async def ask() -> None:
        asked = [asyncio.create_task(reads.run(lambda: gate.wait(BOUND))) for _ in range(1 + WAITING_FOR_EACH)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="Too many reads"):
            await reads.run(lambda: None)
        gate.set()
        assert all(await asyncio.gather(*asked))

    asyncio.run(ask())
    reads.close()


def test_a_client_whose_reads_wait_in_every_place_does_not_shut_out_another():
    reads, gate = Reads(at_once=1, seconds=BOUND), threading.Event()

    async def ask() -> None:
        many = [
            asyncio.create_task(reads.run(lambda: gate.wait(BOUND), client="many", kind=number))
            for number in range(1 + WAITING_FOR_EACH)
        ]
        await asyncio.sleep(0)
        other = asyncio.create_task(reads.run(lambda: "read", client="other"))
        with pytest.raises(Unavailable, match="Too many reads"):
            await many[-1]
        gate.set()
        assert await other == "read"
        assert all(await asyncio.gather(*many[:-1]))

    asyncio.run(ask())
    reads.close()


def test_a_turn_ends_when_its_thread_is_free(monkeypatch):
    monkeypatch.setattr(module, "LONGEST_WAIT", 0.05)
    monkeypatch.setattr(module, "GRACE", 0.0)
    reads, gate = Reads(at_once=1, seconds=0.05), threading.Event()

    async def ask() -> None:
        with pytest.raises(Unavailable, match="longer than"):
            await reads.run(lambda: gate.wait(BOUND))
        with pytest.raises(Unavailable, match="Too many reads"):
            await reads.run(lambda: None)
        gate.set()
        for limit in ("LONGEST_WAIT", "GRACE"):
            monkeypatch.setattr(module, limit, BOUND)
        assert await reads.run(lambda: "done") == "done"

    asyncio.run(ask())
    reads.close()


@pytest.mark.parametrize("threads", [lambda: None, lambda: DaemonThreads("asks")], ids=["a pool", "daemon threads"])
def test_after_the_close_no_further_read_begins(threads):
    reads, began = Reads(at_once=1, seconds=BOUND, threads=threads()), []
    reads.close()
    with pytest.raises(Unavailable, match="No thread can be started for this read"):
        asyncio.run(reads.run(lambda: began.append(True)))
    assert began == []


@pytest.mark.parametrize("threads", [lambda: None, lambda: DaemonThreads("asks")], ids=["a pool", "daemon threads"])
def test_a_turn_ends_when_no_thread_can_be_started(monkeypatch, threads):
    reads = Reads(at_once=1, seconds=BOUND, threads=threads())

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def ask() -> None:
        with monkeypatch.context() as without_threads:
            without_threads.setattr(threading.Thread, "start", refuse)
            with pytest.raises(Unavailable, match="No thread can be started for this read"):
                await reads.run(lambda: None)
        assert [await reads.run(lambda: "done") for _ in range(2)] == ["done", "done"]

    asyncio.run(asyncio.wait_for(ask(), BOUND))
    reads.close()


class Charges(ReadBudget):
    """A budget that keeps what each read has used, in seconds."""

    def __init__(self) -> None:
        super().__init__(is_busy=lambda: True)
        self.used: list[float] = []

    def end(self, key: Hashable, *, advance: float, used: float) -> None:
        super().end(key, advance=advance, used=used)
        self.used.append(used)


@pytest.mark.parametrize("waiting_cost", [0.0, 0.5])
def test_a_read_pays_for_what_other_processes_compute_while_it_waits(waiting_cost):
    """The thread sleeps for a tenth of a second, as it would while the database searches."""
    charges = Charges()
    reads = Reads(at_once=1, seconds=BOUND, budget=charges, waiting_cost=waiting_cost)

    async def ask() -> None:
        await reads.run(lambda: time.sleep(0.1))
        while not charges.used:
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(ask(), BOUND))
    assert (charges.used[0] >= 0.05) == (waiting_cost == 0.5)
    reads.close()


def test_a_search_beside_acks_examines_rows_for_a_part_of_its_time(database, monkeypatch):
    """Each look at the clock takes a second, so the rows that a search examines show its time."""
    numbers = Table("numbers", MetaData(), Column("number", Integer, primary_key=True))
    with database.write() as connection:
        numbers.create(connection)
        connection.execute(insert(numbers), [{"number": number} for number in range(2_000)])
    monkeypatch.setattr(windows, "FIRST_WINDOW", 10)
    monkeypatch.setattr(windows, "LARGEST_WINDOW", 10)
    monkeypatch.setattr(windows, "time", SimpleNamespace(monotonic=count().__next__))
    looks = (windows.Look(("number",), windows.equals(-1)),)
    path = windows.Path(table=numbers, key=("number",), looks=looks)

    def examined() -> int:
        with database.read() as connection:
            return windows.find(connection, path, behind=None, limit=1, seconds=200.0).looked_at

    by_business = {}
    for is_busy in (False, True):
        budget = ReadBudget(is_busy=lambda is_busy=is_busy: is_busy)
        with closing(Reads(at_once=1, seconds=BOUND, budget=budget)) as reads:
            by_business[is_busy] = asyncio.run(reads.run(examined))
    assert by_business[True] == pytest.approx(by_business[False] * windows.SHARE_BESIDE_ACKS, rel=0.2)


def test_the_searches_of_one_read_take_the_time_of_one_search_together(monkeypatch):
    now, shorter = 1_000.0, windows.SECONDS * windows.SHARE_BESIDE_ACKS
    monkeypatch.setattr(windows, "time", SimpleNamespace(monotonic=lambda: now))
    assert windows.seconds_left(now - shorter) == pytest.approx(windows.SECONDS - shorter)
    with windows.beside_acks():
        assert windows.seconds_left(now - shorter) == pytest.approx(0.0)
        assert windows.seconds_left(now - shorter / 2) == pytest.approx(windows.SECONDS / 2)
