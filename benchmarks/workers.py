"""Two worker processes compared with one on PostgreSQL, and the share of the machine that one leaves free."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from os import cpu_count
from statistics import median

from benchmarks import postgresql, rounds, scale
from benchmarks.draining import Drained, drain
from benchmarks.rounds import Figure, Report

EVENTS = 20_000
ROUNDS = scale.rounds(usual=3)


def report() -> Report:
    """In each round both have a new database."""
    seen: dict[int, list[Drained]] = {1: [], 2: []}
    for _ in range(ROUNDS):
        for workers, each in seen.items():
            with postgresql.fresh_database() as url:
                each.append(drain(url, events=EVENTS, workers=workers))
    one, two = (
        Figure(name, "events/s", [each.events_per_second for each in seen[workers]])
        for workers, name in ((1, "one worker"), (2, "two workers"))
    )
    found = rounds.report([one, two], [two / one])
    found.lines.extend(_cores(seen))
    return found


def _cores(seen: Mapping[int, Sequence[Drained]]) -> Iterator[str]:
    """Report the busy cores, if the system counts them."""
    busy = {workers: median(each.busy_cores for each in drained) for workers, drained in seen.items()}
    if busy[1]:
        cores = cpu_count() or 1
        yield f"one worker and its database keep {busy[1]:.2f} cores busy, two {busy[2]:.2f}"
        yield f"{cores} cores have room for {cores / busy[1]:.2f} times the cores that one worker and its database use"
