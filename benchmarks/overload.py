"""Acks per second while half as much again arrives as one server can take, compared with the most that it takes.

Both loads come from the same generator. Under overload the rest must be refused with 503, so that senders try again.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks import open_loop, processor, rounds, scale
from benchmarks.open_loop import Answered
from benchmarks.rounds import Figure, Report
from benchmarks.senders import settings_text
from benchmarks.servers import running

#: How much arrives, as a multiple of the maximum, and for how many seconds.
OVERLOAD, SECONDS = 1.5, scale.seconds(usual=60, quick=5)

#: Seconds of the load that finds the maximum, and its connections, of which more find no more.
FINDING, CONNECTIONS = min(5, SECONDS), 256

#: Connections of the overload: senders that wait for an answer hold one each.
MOST = 4_000

#: The server's bound of waiting bytes: less than those of all connections, so that it must refuse.
WAITING_BYTES = 1 << 20


def report() -> Report:
    most = _most()
    seen, memory = _measure(rate=OVERLOAD * most.goodput, seconds=SECONDS, connections=MOST)
    # Found again afterwards, because the machine may have become faster or slower.
    most = max(most, _most(), key=lambda each: each.goodput)
    goodput = Figure("acks under overload", "requests/s", [seen.goodput])
    maximum = Figure("acks at the most", "requests/s", [most.goodput])
    answered = rounds.report([maximum, goodput], [goodput / maximum])
    others = ", ".join(f"{number:,} of {status}" for status, number in sorted(seen.statuses.items()))
    answered.lines.append(
        f"{OVERLOAD} times the most for {SECONDS} s: {others}; {seen.unsent:,} more were due while all {MOST:,} "
        f"connections waited; p99 of the acks {seen.p99:.0f} ms, at the most {most.p99:.0f} ms"
    )
    sent = sum(seen.statuses.values()) / SECONDS
    answered.lines.append(f"the generator sent {sent:,.0f} a second")
    answered.lines.append(f"memory of the server at the end {memory:.0f} MB")
    return answered


def _most() -> Answered:
    return _measure(rate=0, seconds=FINDING, connections=CONNECTIONS)[0]


def _measure(*, rate: float, seconds: float, connections: int) -> tuple[Answered, float]:
    """Return what the senders saw, and the server's memory at the end in MB."""
    with tempfile.TemporaryDirectory() as own:
        folder = Path(own)
        config = folder / "bounded.toml"
        config.write_text(f"max_waiting_bytes = {WAITING_BYTES}\n{settings_text()}")
        with running("hookmirror", folder, "--no-worker", config=config) as (url, process):
            seen = open_loop.send(url, rate=rate, seconds=seconds, connections=connections)
            return seen, processor.memory(process)
