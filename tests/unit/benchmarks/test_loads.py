"""The reports of the measurements of overload, memory and a long history, and the cases that they leave out."""

from __future__ import annotations

import asyncio
import math
import os
import sqlite3
import sys

import pytest
from ports import free_port
from sqlalchemy import make_url

from benchmarks import ended, memory, overload, processor, sqlite
from benchmarks.open_loop import Answered, _Load
from benchmarks.overload import Loaded
from benchmarks.rounds import Figure
from receiver.inbox.ids import MOST_PROCESSES


def loaded(statuses: dict[str, int], goodput: float) -> Loaded:
    return Loaded(Answered(statuses, 0, goodput, 8.0), 110.0, 0.9, 2.0)


def told(statuses: dict[str, int], sent: float) -> list[str]:
    most = loaded({"200": 60_000}, 1_000.0)
    return list(overload._details(most, loaded(statuses, 900.0), Figure("sent", "", [sent])))


def test_an_overload_tells_what_was_neither_acked_nor_refused():
    lines = told({"200": 54_000, "503": 35_000, "500": 3, "lost": 2, "unanswered": 1, "not connected": 4}, 1.5)
    assert "neither acked nor refused with 503: 10" in lines
    assert lines[0].startswith("of 89,006 sent in ")
    assert not any(line.startswith("THE OVERLOAD WAS") for line in lines)


def test_an_overload_that_the_generator_could_not_send_says_so():
    assert told({"200": 54_000, "503": 6_000}, 1.1)[-1].startswith("THE OVERLOAD WAS 1.10 TIMES THE MOST, and not 1.5")


def test_a_connection_that_cannot_be_opened_again_is_counted():
    async def insist() -> _Load:
        load = _Load(f"http://127.0.0.1:{free_port()}", 1.0, 1.0, 1)
        load.until = math.inf
        insisting = asyncio.create_task(load._insist())
        while not load.statuses["not connected"]:
            await asyncio.sleep(0.001)
        load.until = 0.0
        await insisting
        return load

    assert asyncio.run(insist()).statuses["not connected"] >= 1


def test_the_memory_of_a_run_is_told_by_process_and_from_warm_to_the_end(monkeypatch):
    monkeypatch.setattr(memory, "WARM", 2_000)
    readings = [(1_000, 90.0), (2_000, 100.0), (3_000, 110.0), (4_000, 125.0)]
    report = memory._told(readings, [70.0, 55.0], 95.0)
    assert report.lines == [
        "4,000 events, all processed; in MB: 100 when warm, 125 at the end, 125 at the most",
        "least / most when warm    0.80",
        "end / middle of the run   1.14",
        "at the end, with shared pages counted once: 95 MB",
        "each of 2 processes at the end: 70, 55",
    ]
    assert report.figures[0].values == [100.0, 110.0, 125.0]


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells the memory of a process in /proc")
def test_what_processes_share_counts_once_in_their_memory():
    assert 0 < processor.memory_once(os.getpid()) <= 1.05 * processor.memory(os.getpid())


def test_random_keys_of_a_long_history_follow_the_time_for_one_sender_only():
    with sqlite.fresh_file() as url:
        ended.fill(url, 300, ended.random_keys)
        connection = sqlite3.connect(str(make_url(url).database))
        asked = "SELECT dedup_key, delivery_id FROM dedup_keys WHERE source = ? ORDER BY dedup_key"
        led, alone = (connection.execute(asked, [source]).fetchall() for source in ("sigma", "sticky"))
        connection.close()
    assert [number for _, number in led] == sorted(number for _, number in led)
    assert all(key.startswith(f"{number // MOST_PROCESSES}-del-") for key, number in led)
    assert [number for _, number in alone] != sorted(number for _, number in alone)
    assert len({key for key, _ in alone}) == 300
