"""A run: webhooks come in, processes are killed at random instants, and afterwards everything is counted."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import statistics
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

from databases import PostgresqlServer
from deployment import Post
from scene import Scene, staged

#: Average seconds from one kill to the next.
USUAL_PAUSE = 0.6

#: The share of the kills that wait for a full recovery, and the most seconds of that wait. The other kills hit
#: processes that are still starting or recovering.
RECOVERED, RECOVERY = 0.75, 20.0

DATABASES = ("sqlite", "postgresql")


@dataclass(frozen=True, slots=True)
class Kill:
    #: Seconds of Unix time.
    at: float
    #: The kind of process: endpoint, acceptor (the process that stores for an endpoint), worker, postmaster, backend.
    victim: str


@dataclass(slots=True, kw_only=True)
class Verdict:
    """The counts after a run. All counts in `must_be_zero` must be 0."""

    database: str
    seed: int
    seconds: float
    kills: dict[str, int]
    #: Events of the systems, and those of them that were acked, without duplicates.
    events: int
    acked: int
    #: Answers by status; 0 stands for no answer.
    statuses: dict[int, int]
    #: Requests that were answered as duplicates.
    duplicates: int
    #: Acked deliveries that are missing in the database.
    lost: int
    #: Deliveries without an ack, although everything was sent until it was acked.
    unasked: int
    #: Deliveries beyond one for each event.
    stored_twice: int
    #: Deliveries that ended, or changed one row, more than once.
    applied_twice: int
    #: Deliveries with an effect that was committed without their end.
    half_applied: int
    #: Rows of the mirror that differ from the systems' own.
    diverged: int
    rows: int
    #: Changes that the follower of the feed did not see, and those that it saw wrongly or twice.
    feed_missed: int
    feed_wrong: int
    #: Deliveries that were still open when the time for the backlog was over.
    stuck: int
    dead: int
    #: 1 if a delivery lacks its body or its dedup key, or if SQLite finds a fault in the file.
    unsound: int
    #: Processes that did not exit with 0 at the end.
    bad_exits: int
    #: Seconds from a kill to the next ack and to the next end of a delivery, if no other kill came between them.
    longest_to_ack: float
    median_to_ack: float
    longest_to_end: float
    median_to_end: float
    #: Longest time without any ack in seconds, over any number of kills.
    longest_without_ack: float
    #: Seconds that the slowest 503 took.
    slowest_refusal: float
    notes: list[str] = field(default_factory=list)

    @property
    def must_be_zero(self) -> dict[str, int]:
        names = ("lost", "unasked", "stored_twice", "applied_twice", "half_applied", "diverged")
        more = ("feed_missed", "feed_wrong", "stuck", "dead", "unsound", "bad_exits")
        return {name: getattr(self, name) for name in (*names, *more)}

    @property
    def good(self) -> bool:
        return not any(self.must_be_zero.values())

    def lines(self) -> list[str]:
        kills = ", ".join(f"{count} {victim}" for victim, count in sorted(self.kills.items()))
        zero = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in self.must_be_zero.items())
        return [
            f"{self.database}, seed {self.seed}: {sum(self.kills.values())} kills ({kills}) in {self.seconds:.0f} s",
            f"  events acked {self.acked} of {self.events}, answered as duplicates {self.duplicates}, "
            f"answers by status {self.statuses}",
            f"  {zero} (rows compared: {self.rows})",
            f"  from a kill to the next ack: longest {self.longest_to_ack:.2f} s, median {self.median_to_ack:.3f} s; "
            f"to the next end of a delivery: longest {self.longest_to_end:.2f} s, median {self.median_to_end:.3f} s; "
            f"longest without an ack, over any number of kills: {self.longest_without_ack:.2f} s; "
            f"slowest 503: {self.slowest_refusal:.2f} s",
            *(f"  {note}" for note in self.notes),
        ]


class Killer:
    """Kills processes at random instants that the seed decides; the deployment starts them again."""

    def __init__(self, scene: Scene, *, seed: int, pause: float, acceptors: bool = False) -> None:
        deployment, database = scene.deployment, scene.database
        self.kills: list[Kill] = []
        self._scene = scene
        self._jitter = random.Random(seed)
        self._pause = pause
        victims: list[tuple[int, str, Callable[[], bool]]] = [
            (3, "endpoint", lambda: self._kill_one(deployment.endpoints)),
            (3, "worker", lambda: self._kill_one(deployment.workers)),
        ]
        if acceptors:
            victims += [(3, "acceptor", lambda: self._kill_acceptor(deployment.endpoints))]
        if isinstance(database, PostgresqlServer):
            victims += [(1, "postmaster", lambda: self._kill_postmaster(database))]
            victims += [(2, "backend", lambda: database.kill_backend(self._jitter))]
        self._victims = victims

    async def run(self, kills: int, progress: Callable[[int], None]) -> None:
        while len(self.kills) < kills:
            if self._jitter.random() < RECOVERED:
                await self._recovery()
            await asyncio.sleep(self._jitter.expovariate(1 / self._pause))
            weights = [weight for weight, _, _ in self._victims]
            _, victim, kill = self._jitter.choices(self._victims, weights)[0]
            at = time.time()
            if await asyncio.to_thread(kill):
                self.kills.append(Kill(at, victim))
                progress(len(self.kills))

    async def _recovery(self) -> None:
        """Wait for an ack and a change, with a bound: without it, processes that never recover would go unnoticed."""
        stream, consumer = self._scene.stream, self._scene.consumer
        acks, changes, end = len(stream.acks), len(consumer.seen), time.monotonic() + RECOVERY
        while time.monotonic() < end and (len(stream.acks) == acks or len(consumer.seen) == changes):
            await asyncio.sleep(0.01)

    def _kill_one(self, posts: Sequence[Post]) -> bool:
        alive = [post.process for post in posts if post.process is not None and post.alive]
        if not alive:
            return False
        self._jitter.choice(alive).kill()
        return True

    def _kill_acceptor(self, posts: Sequence[Post]) -> bool:
        alive = [post.process.pid for post in posts if post.process is not None and post.alive]
        acceptors = [acceptor for pid in alive for acceptor in _children(pid)]
        if not acceptors:
            return False
        with suppress(ProcessLookupError):
            os.kill(self._jitter.choice(acceptors), signal.SIGKILL)
        return True

    def _kill_postmaster(self, database: PostgresqlServer) -> bool:
        database.kill_postmaster()
        return True


async def run(
    name: str,
    *,
    kills: int,
    seed: int,
    rate: float,
    pause: float,
    progress: Callable[[int], None] = lambda _: None,
    sabotage: str = "",
    acceptors: bool = False,
    each: int = 2,
) -> Verdict:
    """Make one run on one database, in a folder and on ports of its own, with `each` endpoints and workers.

    With `acceptors`, each endpoint has an acceptor process, which is killed, too.
    """
    settings = {"acceptor_process": True} if acceptors else {}
    processes = {"endpoints": each, "workers": each}
    async with staged(name, seed=seed, rate=rate, settings=settings, sabotage=sabotage, **processes) as scene:
        killer = Killer(scene, seed=seed, pause=pause, acceptors=acceptors)
        began = time.monotonic()
        async with scene.flowing():
            await killer.run(kills, progress)
        return await judge(scene, killer.kills, seed=seed, seconds=time.monotonic() - began)


async def judge(scene: Scene, kills: Sequence[Kill], *, seed: int, seconds: float) -> Verdict:
    """Count everything, and stop what still runs."""
    deployment, ledger, stream = scene.deployment, scene.ledger, scene.stream
    await deployment.all_ready()
    async with deployment.client() as client:
        mirrors = await stream.mirrors(client)
    comparisons = stream.compare(mirrors)
    codes = await deployment.stop()
    differences = [each for comparison in comparisons for each in comparison.differences]
    kept, states = ledger.kept(), ledger.states()
    twice = ledger.applied_twice()
    to_ack, to_end = recoveries(kills, stream.acks), recoveries(kills, ledger.ends())
    wrong = [each for source, mirror in mirrors.items() for each in scene.consumer.wrong(source, mirror)]
    notes = [str(each) for each in (*differences[:5], *twice[:5], *wrong[:5], *scene.consumer.breaks[:5])]
    notes += ledger.open_deliveries()[:5]
    if any(codes):
        notes += [f"exit codes: {dict(zip((post.name for post in deployment.posts), codes, strict=True))}"]
    return Verdict(
        database=scene.database.name,
        seed=seed,
        seconds=seconds,
        kills=dict(Counter(kill.victim for kill in kills)),
        events=sum(stream.events.values()),
        acked=stream.arrived,
        statuses=stream.statuses,
        duplicates=stream.duplicates,
        lost=len(stream.kept - kept),
        unasked=len(kept - stream.kept),
        stored_twice=sum(abs(count - stream.events[source]) for source, count in ledger.by_source().items()),
        applied_twice=len(twice),
        half_applied=ledger.effects_without_end(),
        diverged=len({(each.table, each.external_id) for each in differences}),
        feed_missed=len(ledger.changes() ^ set(scene.consumer.seen)),
        feed_wrong=len(wrong) + len(scene.consumer.breaks) + len(scene.consumer.seen) - len(set(scene.consumer.seen)),
        rows=sum(comparison.rows for comparison in comparisons),
        stuck=sum(states.get(state, 0) for state in ("pending", "processing")),
        dead=states.get("dead", 0),
        unsound=0 if ledger.is_sound() else 1,
        bad_exits=sum(code != 0 for code in codes),
        longest_to_ack=max(to_ack, default=0.0),
        median_to_ack=statistics.median(to_ack) if to_ack else 0.0,
        longest_to_end=max(to_end, default=0.0),
        median_to_end=statistics.median(to_end) if to_end else 0.0,
        longest_without_ack=longest_pause(stream.acks),
        slowest_refusal=max(stream.refusals.get(503, []), default=0.0),
        notes=notes,
    )


def _children(pid: int) -> list[int]:
    """The processes that this one has started."""
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def recoveries(kills: Sequence[Kill], moments: Sequence[float]) -> list[float]:
    """Return the seconds from each kill to the next moment, without the kills before which another one came.

    Kills and moments are in ascending order.
    """
    found = []
    for kill, following in zip_longest(kills, kills[1:]):
        index = bisect_right(moments, kill.at)
        if index < len(moments) and (following is None or moments[index] <= following.at):
            found.append(moments[index] - kill.at)
    return found


def longest_pause(moments: Sequence[float]) -> float:
    """Return the most seconds between two neighbouring moments."""
    return max((later - earlier for earlier, later in pairwise(moments)), default=0.0)


def as_json(verdict: Verdict) -> dict[str, Any]:
    shown = {name: getattr(verdict, name) for name in Verdict.__dataclass_fields__}
    return {**shown, "statuses": {str(status): count for status, count in verdict.statuses.items()}}
