"""Changes that `hookmirror follow` posts to an HTTP target, against the same client without a follower."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks.postgresql import fresh_database
from receiver.database.database import Database
from receiver.database.schema import Schema
from receiver.following.feed import Feed, FeedItem
from receiver.following.following import Following
from receiver.following.lease import START, FollowOptions
from receiver.following.target import PostVerdict, Target, TargetAnswer
from receiver.logs import logs
from receiver.mirror.changes import RowChange, record
from receiver.search.filters import ChangeFilter

#: Changes of one turn, products that they are about, and turns of each side.
CHANGES, PRODUCTS, TURNS = 400, 100, 8

#: Changes recorded in one transaction, as by a batch of the worker.
BATCH = 200

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class _Counting(Target):
    """A target that ends its follower after a number of accepted changes."""

    accepted = 0

    def post(self, item: FeedItem, stopping: threading.Event) -> TargetAnswer:
        answer = super().post(item, stopping)
        assert answer.verdict is PostVerdict.ACCEPTED, answer.says
        self.accepted += 1
        if self.accepted == CHANGES:
            stopping.set()
        return answer


class _Took(NamedTuple):
    """The seconds of one turn, and those of this process's processor time."""

    seconds: float
    processor: float


def report() -> list[str]:
    logs.configure("warning", "console")
    lines = []
    with TemporaryDirectory() as folder, fresh_database() as postgresql, _target() as url:
        for name, database_url in (("SQLite", f"sqlite:///{Path(folder) / 'feed.db'}"), ("PostgreSQL", postgresql)):
            with closing(Database(database_url)) as database:
                Schema(database).upgrade()
                _record(database)
                lines += _compared(name, [_pair(database, url, turn) for turn in range(TURNS)])
    return lines


def _compared(name: str, turns: Sequence[tuple[_Took, _Took]]) -> Iterator[str]:
    """Yield the medians of both sides, and the ratios of turns that were measured shortly after each other."""
    followed, posted = (median(CHANGES / took.seconds for took in side) for side in zip(*turns, strict=True))
    rates = [bare.seconds / whole.seconds for whole, bare in turns]
    yield f"{name}: {followed:,.0f} changes/s followed, {posted:,.0f}/s posted by the same client with no cursor"
    yield f"  the first / the second{median(rates):>8.2f} ({min(rates):.2f} to {max(rates):.2f})"
    whole, bare = (median(took.processor / CHANGES * 1e3 for took in side) for side in zip(*turns, strict=True))
    yield f"  processor time of a change {whole:.2f} ms and {bare:.2f} ms: {whole / bare:.2f} times as much"


def _pair(database: Database, url: str, turn: int) -> tuple[_Took, _Took]:
    """Measure the follower and the bare client, each before the other in every second turn."""
    if turn % 2:
        bare = _post(database, url)
        return _follow(database, url, turn), bare
    return _follow(database, url, turn), _post(database, url)


def _follow(database: Database, url: str, turn: int) -> _Took:
    """Let a new follower post all changes, and measure from taking its lease to giving it back."""
    name, stopping = f"turn-{turn}", threading.Event()
    with closing(_Counting(url, follower=name)) as target:
        following = Following(database, target, FollowOptions(name=name, begin=START), stopping=stopping)
        return _timed(following.run)


def _post(database: Database, url: str) -> _Took:
    """Post the same changes, read before, one after the other."""
    items, feed = list[FeedItem](), Feed(database, ChangeFilter())
    while found := feed.after(items[-1].seq if items else 0).items:
        items += found
    with closing(_Counting(url, follower="none")) as target:
        return _timed(lambda: [target.post(item, threading.Event()) for item in items])


def _timed(work: Callable[[], object]) -> _Took:
    began, used = time.perf_counter(), time.process_time()
    work()
    return _Took(time.perf_counter() - began, time.process_time() - used)


def _record(database: Database) -> None:
    """Record updates of products, with a whole page of a catalog's columns in each."""
    for start in range(0, CHANGES, BATCH):
        changes = [_change(number) for number in range(start, start + BATCH)]
        with database.write() as connection:
            record(connection, changes, now=NOON)


def _change(number: int) -> RowChange:
    before, after = (
        {"name": f"Lamp {each}", "price": f"{each % 100}.90", "data": {"description": "x" * 300, "revision": each}}
        for each in (number, number + 1)
    )
    moment = NOON + timedelta(seconds=number)
    return RowChange("products", "shop", f"P{number % PRODUCTS}", "update", before, after, number + 1, moment)


# ── the target ────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _target() -> Iterator[str]:
    """Run a target that accepts everything in a process of its own, and give its URL."""
    spawning = multiprocessing.get_context("spawn")
    here, there = spawning.Pipe()
    process = spawning.Process(target=_serve, args=(there,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}/changes"
    finally:
        process.terminate()
        process.join()


def _serve(there: Connection) -> None:
    asyncio.run(_accept_all(there))


async def _accept_all(there: Connection) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.partition(b":")[2]))
                writer.write(ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    there.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()
