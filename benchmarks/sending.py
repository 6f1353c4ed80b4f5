"""The speed of the simulator with prepared messages, compared with the receiver's acks."""

from __future__ import annotations

import asyncio
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from benchmarks.load import CONNECTIONS
from benchmarks.senders import SECRET
from benchmarks.servers import running
from simulator.clock import SteppedClock
from simulator.load import blast, make
from simulator.run import build

EVENTS = 10_000
ROUNDS = 3


def measure() -> dict[str, float]:
    """Return messages per second by server: the median of the rounds. The bare server shows the sender's own limit."""
    rates: dict[str, list[float]] = {"bare": [], "hookmirror": []}
    for _ in range(ROUNDS):
        for name, arguments in (("bare", ()), ("hookmirror", ("--no-worker",))):
            with tempfile.TemporaryDirectory() as folder, running(name, Path(folder), *arguments) as (url, _):
                rates[name].append(_send(url))
    return {name: median(each) for name, each in rates.items()}


def report() -> list[str]:
    rates = measure()
    return [
        f"sent to a bare server      {rates['bare']:>9.0f} messages/s",
        f"sent to and acked by ours  {rates['hookmirror']:>9.0f} messages/s",
        f"sender / receiver          {rates['bare'] / rates['hookmirror']:.2f}",
    ]


def _send(url: str) -> float:
    (system,) = build(["iimmpact"], seed=1, clock=SteppedClock(datetime(2026, 1, 1, tzinfo=UTC)))
    system.subscribe(f"{url}/hooks/iimmpact")
    system.subscriptions[0].secret = SECRET
    sent = asyncio.run(blast(make(system, EVENTS), connections=CONNECTIONS))
    assert set(sent.statuses) == {200}, f"refused: {sent.statuses}"
    return sent.per_second
