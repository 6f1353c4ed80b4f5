"""Acks per second while 1.5 times as much arrives as one server can take, compared with the most that it takes.

All loads come from the same generator. Under overload the rest must be refused with 503, so that senders try again.

An ack over one of thousands of connections costs more than one over one of hundreds, because the connections do not fit
into the processor's caches. So the most is found with as many connections as the overload has, and also with few.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks import cores, open_loop, processor, rounds, scale
from benchmarks.open_loop import Answered
from benchmarks.rounds import Figure, Report
from benchmarks.senders import settings_text
from benchmarks.servers import running
from receiver.settings.limits import Limits

#: The load as a multiple of the maximum, and its seconds.
OVERLOAD, SECONDS = 1.5, scale.seconds(usual=60, quick=5)

#: The least share of that load that must have been sent for the measurement to count.
ENOUGH = 0.95

#: Seconds of each load that finds a maximum, and of the overload that is not refused.
FINDING, CALM_SECONDS = min(6, SECONDS), min(20, SECONDS)

#: Connections of the overload, since senders that wait for an answer hold one each; and few, with which the server is
#: fastest.
MANY, FEW = 4_000, 256

#: The server's bounds of waiting bytes: less than those of all connections, so that it must refuse; and the default,
#: which holds them all.
TIGHT, USUAL = 1 << 20, Limits().max_waiting_bytes


class Loaded(NamedTuple):
    """One load on one server."""

    answered: Answered
    #: MB of the server at the end, and the cores that it kept busy.
    memory: float
    busy: float
    #: The cores that were available before or after, whichever is less.
    cores: float


def report() -> Report:
    few = _most(FEW)
    before = _most(MANY)
    rate = OVERLOAD * before.answered.goodput
    over = _load(rate=rate, seconds=SECONDS, connections=MANY, waiting_bytes=TIGHT)
    # Found again afterwards, because the machine may have become faster or slower.
    after = _most(MANY)
    held = _load(rate=rate, seconds=CALM_SECONDS, connections=MANY, waiting_bytes=USUAL)
    most = max(before, after, key=lambda each: each.answered.goodput)
    found = [each.answered.goodput for each in (before, after)]
    maximum = Figure("acks at the most, before and after", "requests/s", found, [before.cores, after.cores])
    best = Figure("the most", "requests/s", [most.answered.goodput], [most.cores])
    goodput, kept = _acks("acks under overload", over), _acks("acks under overload without refusals", held)
    fastest = _acks(f"acks at the most with {FEW} connections", few)
    sent = Figure("sent under overload", "requests/s", [_sent(over.answered) / SECONDS], [over.cores])
    told = rounds.report(
        [maximum, fastest, goodput, kept, sent], [goodput / best, kept / best, sent / best, best / fastest]
    )
    return told._replace(lines=[*told.lines, *_details(most, over, sent / best)])


def _most(connections: int) -> Loaded:
    """The load with which the server acks the most over this number of connections, without a refusal."""
    return _load(rate=0, seconds=FINDING, connections=connections, waiting_bytes=USUAL)


def _acks(name: str, loaded: Loaded) -> Figure:
    return Figure(name, "requests/s", [loaded.answered.goodput], [loaded.cores])


def _details(most: Loaded, over: Loaded, sent: Figure) -> Iterator[str]:
    seen = over.answered
    others = ", ".join(f"{number:,} {status}" for status, number in sorted(seen.statuses.items()))
    yield f"of {_sent(seen):,} sent in {SECONDS} s: {others}"
    unexplained = sum(number for status, number in seen.statuses.items() if status not in ("200", "503"))
    yield f"neither acked nor refused with 503: {unexplained:,}"
    yield f"{seen.unsent:,} more were due while all {MANY:,} connections waited"
    yield f"p99 of the acks {seen.p99:.0f} ms, at the most {most.answered.p99:.0f} ms"
    yield f"cores that the server kept busy {over.busy:.2f}, at the most {most.busy:.2f}"
    yield f"memory of the server at the end {over.memory:.0f} MB, at the most {most.memory:.0f} MB"
    if sent.spread.median < ENOUGH * OVERLOAD:
        yield (
            f"THE OVERLOAD WAS {sent.spread.median:.2f} TIMES THE MOST, and not {OVERLOAD}: "
            "the generator, the server and the machine's cores could not carry more"
        )


def _sent(answered: Answered) -> int:
    """The number of webhooks that were sent: each was answered, lost or left without an answer."""
    return sum(number for status, number in answered.statuses.items() if status != "not connected")


def _load(*, rate: float, seconds: float, connections: int, waiting_bytes: int) -> Loaded:
    with tempfile.TemporaryDirectory() as own:
        folder = Path(own)
        config = folder / "bounded.toml"
        config.write_text(f"max_waiting_bytes = {waiting_bytes}\n{settings_text()}")
        there = cores.there()
        with running("hookmirror", folder, "--no-worker", config=config) as (url, process):
            began = processor.seconds(process)
            seen = open_loop.send(url, rate=rate, seconds=seconds, connections=connections)
            busy = (processor.seconds(process) - began) / seconds
            memory = processor.memory(process)
        return Loaded(seen, memory, busy, min(there, cores.there()))
