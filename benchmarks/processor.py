"""Processor time and memory of the benchmark and of every process that it started: servers, workers, databases."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path


def seconds(of: int | None = None) -> float:
    """Return the seconds that a process (by default this one) and its living descendants have used so far.

    Returns 0 if the system does not tell.
    """
    # The 12th and 13th fields after the name are the clock ticks in the program and in the system.
    return sum(int(fields[11]) + int(fields[12]) for fields in _family(of)) / os.sysconf("SC_CLK_TCK")


def memory(of: int) -> float:
    """Return the resident memory of a process and its descendants in MB. Shared pages count for each."""
    return sum(memory_of_each(of))


def memory_once(of: int) -> float:
    """Return the memory of a process and its descendants in MB, in which shared pages count once.

    Returns 0 if the system does not tell.
    """
    return sum(_proportional(process) for process in _family_ids(of)) / 1_024


def _proportional(process: int) -> int:
    """A process's memory in kB, with its part of the shared pages."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def memory_of_each(of: int) -> list[float]:
    """Return the resident memory of a process and of each of its descendants in MB, largest first."""
    # The 22nd field after the name is the number of pages.
    page = os.sysconf("SC_PAGE_SIZE") / (1 << 20)
    return sorted((int(fields[21]) * page for fields in _family(of)), reverse=True)


def _family(of: int | None) -> Iterator[Sequence[str]]:
    """Yield the status of a process (by default this one) and of its living descendants, in fields after the name."""
    yield from _family_ids(of).values()


def _family_ids(of: int | None) -> dict[int, Sequence[str]]:
    """Return the same by process id."""
    family: dict[int, Sequence[str]] = {}
    children: dict[int, list[int]] = defaultdict(list)
    found: dict[int, Sequence[str]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name may contain anything. After it come the state, the parent, …
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        process = int(path.parent.name)
        children[int(fields[1])].append(process)
        found[process] = fields
    waiting = [of or os.getpid()]
    while waiting:
        process = waiting.pop()
        if process in found:
            family[process] = found[process]
        waiting.extend(children[process])
    return family
