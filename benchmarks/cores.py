"""Checks that the cores are available: a virtual machine may get less, and its statistics may not show it.

Two processes, each on a core of its own, count as fast as they can. Together they count as much as two cores do, if
there are two.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from typing import TypeVar

from benchmarks import scale

#: Cores that are checked, and the number of them that must be available for a figure to count without a mark.
CHECKED, ENOUGH = 2, 1.8

#: Seconds for which the spinners count.
SPIN = 0.1

#: Seconds that a run may spend on waiting for cores and on repeating cells that had too few.
BUDGET = scale.either(60.0, 15.0)

Result = TypeVar("Result")


class _Spinners:
    """One counting process for each core."""

    def __init__(self, cores: list[int]) -> None:
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.cores", str(core)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for core in cores
        ]
        atexit.register(self.end)
        #: The most that one process has counted alone.
        self._most = max(self._count(process) for _ in range(5) for process in self._processes)

    def there(self) -> float:
        """The number of cores that are available now."""
        _start(*self._processes)
        counted = [_counted(process) for process in self._processes]
        self._most = max(self._most, *counted)
        return sum(counted) / self._most

    def _count(self, process: subprocess.Popen[str]) -> int:
        _start(process)
        return _counted(process)

    def end(self) -> None:
        for process in self._processes:
            process.communicate(timeout=10)


def _start(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("count\n")
        process.stdin.flush()


def _counted(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


@cache
def _spinners() -> _Spinners:
    return _Spinners(sorted(os.sched_getaffinity(0))[:CHECKED])


def there() -> float:
    """The number of cores that are available now: at most two are checked."""
    return _spinners().there()


def checked(measure: Callable[[], Result]) -> tuple[Result, float]:
    """Measure while the cores are available, and return the result with the lower number of cores, before or after.

    While cores are missing, it waits and repeats, until the run's budget for that is used up. Then the result counts as
    it is, and the caller marks it.
    """
    global _spent
    while True:
        began = time.monotonic()
        while (before := there()) < ENOUGH and _spent + time.monotonic() - began < BUDGET:
            time.sleep(0.5)
        _spent += time.monotonic() - began
        began = time.monotonic()
        result = measure()
        cores = min(before, there())
        if cores >= ENOUGH or _spent >= BUDGET:
            return result, cores
        _spent += time.monotonic() - began


#: Seconds that this run has spent on that.
_spent = 0.0


def main(core: int) -> None:
    """Count for a moment on this core for each line on standard input."""
    os.sched_setaffinity(0, {core})
    for _ in sys.stdin:
        counted, until = 0, time.perf_counter() + SPIN
        while time.perf_counter() < until:
            counted += 1
        print(counted, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
