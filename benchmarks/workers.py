"""Two worker processes compared with one on PostgreSQL, and the share of the machine that one leaves free."""

from __future__ import annotations

from os import cpu_count
from statistics import median

from benchmarks import postgresql
from benchmarks.draining import Drained, drain

EVENTS = 20_000
ROUNDS = 3


def measure() -> dict[int, Drained]:
    """Return the medians of the rounds by number of workers; in each round both have a new database."""
    seen: dict[int, list[Drained]] = {1: [], 2: []}
    for _ in range(ROUNDS):
        for workers, each in seen.items():
            with postgresql.fresh_database() as url:
                each.append(drain(url, events=EVENTS, workers=workers))
    return {
        workers: Drained(median(one.events_per_second for one in each), median(one.busy_cores for one in each))
        for workers, each in seen.items()
    }


def report() -> list[str]:
    one, two = measure().values()
    lines = [
        f"one worker   {one.events_per_second:>9.0f} events/s, {one.busy_cores:.2f} cores busy",
        f"two workers  {two.events_per_second:>9.0f} events/s, {two.busy_cores:.2f} cores busy",
        f"two / one    {two.events_per_second / one.events_per_second:.2f}",
    ]
    if one.busy_cores:
        cores = cpu_count() or 1
        lines.append(
            f"{cores} cores have room for {cores / one.busy_cores:.2f} times what one worker and its database use"
        )
    return lines
