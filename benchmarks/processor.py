"""Processor time of the benchmark and everything that it started: servers, workers, databases. Nobody else's."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path


def seconds(of: int | None = None) -> float:
    """What they, or a process and those that it started, have used so far, as long as they live.

    0 where the system does not say.
    """
    children: dict[int, list[int]] = defaultdict(list)
    used: dict[int, float] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # Behind the name, which may hold anything: state, parent, and as the 12th and 13th the ticks.
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
