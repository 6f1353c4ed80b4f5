"""Processor time of the benchmark and of every process that it started: servers, workers, databases."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path


def seconds(of: int | None = None) -> float:
    """Return the seconds that a process (by default this one) and its living descendants have used so far.

    Returns 0 if the system does not tell.
    """
    children: dict[int, list[int]] = defaultdict(list)
    used: dict[int, float] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The fields after the name, which may contain anything: state, parent, …; the 12th and 13th are the clock
            # ticks.
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        process = int(path.parent.name)
        children[int(fields[1])].append(process)
        used[process] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    total, waiting = 0.0, [of or os.getpid()]
    while waiting:
        process = waiting.pop()
        total += used.get(process, 0.0)
        waiting.extend(children[process])
    return total
