"""Acks per second while 1.5 times as much arrives as one server can take, compared with the most that it takes.

Both loads come from the same generator. Under overload the rest must be refused with 503, so that senders try again.
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

#: The load as a multiple of the maximum, and its seconds.
OVERLOAD, SECONDS = 1.5, scale.seconds(usual=60, quick=5)

#: The least share of that load that must have been sent for the measurement to count.
ENOUGH = 0.95

#: Seconds and connections of the load that finds the maximum. With more connections, the maximum is not higher.
FINDING, CONNECTIONS = min(10, SECONDS), 256

#: Connections of the overload: senders that wait for an answer hold one each.
MOST = 4_000

#: The server's bound of waiting bytes: less than those of all connections, so that it must refuse.
WAITING_BYTES = 1 << 20


class Loaded(NamedTuple):
    """One load on one server."""

    answered: Answered
    #: MB of the server at the end, and the cores that it kept busy.
    memory: float
    busy: float
    #: The cores that were available before or after, whichever is less.
    cores: float


def report() -> Report:
    before = _load(rate=0, seconds=FINDING, connections=CONNECTIONS)
    over = _load(rate=OVERLOAD * before.answered.goodput, seconds=SECONDS, connections=MOST)
    # Found again afterwards, because the machine may have become faster or slower.
    after = _load(rate=0, seconds=FINDING, connections=CONNECTIONS)
    most = max(before, after, key=lambda each: each.answered.goodput)
    found = [each.answered.goodput for each in (before, after)]
    maximum = Figure("acks at the most, before and after", "requests/s", found, [before.cores, after.cores])
    goodput = Figure("acks under overload", "requests/s", [over.answered.goodput], [over.cores])
    sent = Figure("sent under overload", "requests/s", [_sent(over.answered) / SECONDS], [over.cores])
    best = Figure("the most", "requests/s", [most.answered.goodput], [most.cores])
    told = rounds.report([maximum, goodput, sent], [goodput / best, sent / best])
    return told._replace(lines=[*told.lines, *_details(most, over, sent / best)])


def _details(most: Loaded, over: Loaded, sent: Figure) -> Iterator[str]:
    seen = over.answered
    others = ", ".join(f"{number:,} {status}" for status, number in sorted(seen.statuses.items()))
    yield f"of {_sent(seen):,} sent in {SECONDS} s: {others}"
    unexplained = sum(number for status, number in seen.statuses.items() if status not in ("200", "503"))
    yield f"neither acked nor refused with 503: {unexplained:,}"
    yield f"{seen.unsent:,} more were due while all {MOST:,} connections waited"
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


def _load(*, rate: float, seconds: float, connections: int) -> Loaded:
    with tempfile.TemporaryDirectory() as own:
        folder = Path(own)
        config = folder / "bounded.toml"
        config.write_text(f"max_waiting_bytes = {WAITING_BYTES}\n{settings_text()}")
        there = cores.there()
        with running("hookmirror", folder, "--no-worker", config=config) as (url, process):
            began = processor.seconds(process)
            seen = open_loop.send(url, rate=rate, seconds=seconds, connections=connections)
            busy = (processor.seconds(process) - began) / seconds
            memory = processor.memory(process)
        return Loaded(seen, memory, busy, min(there, cores.there()))
