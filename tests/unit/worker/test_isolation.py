"""Code of a dialect that runs for a read on a thread of its own: abandoned if it hangs, and only then."""

from __future__ import annotations

import math
import threading
import time
from types import SimpleNamespace
from typing import Any

from waiting import TIMEOUT, wait_until

from receiver.worker import isolation
from receiver.worker.isolation import IsolatedRun
from receiver.worker.trial import Obstacle

#: Seconds that are longer than any handler may take.
LONG = 1_000.0


class Taken:
    """The results of a run, by delivery."""

    def __init__(self) -> None:
        self.results: dict[str, Any] = {}

    def __call__(self, delivery: Any, trial: Any) -> None:
        self.results[delivery] = getattr(trial, "obstacle", trial)


def test_a_handler_that_hangs_is_abandoned_and_the_others_are_run(monkeypatch):
    monkeypatch.setattr(isolation, "HANG_SECONDS", LONG)
    opened, taken = threading.Event(), Taken()

    def try_one(each: str) -> str:
        if each == "HANGS":
            monkeypatch.setattr(isolation, "HANG_SECONDS", 0.2)
            opened.wait(TIMEOUT)
        return each

    def take(delivery: str, trial: Any) -> None:
        # The others may be slow, as threads are on a busy machine.
        monkeypatch.setattr(isolation, "HANG_SECONDS", LONG)
        taken(delivery, trial)

    run = IsolatedRun(try_one, take, math.inf)
    try:
        assert run.run(["A", "HANGS", "B"]) == 3
        assert (run.left_behind, taken.results) == (1, {"A": "A", "HANGS": Obstacle.HANGS, "B": "B"})
    finally:
        opened.set()
    wait_until(lambda: not [each for each in threading.enumerate() if each.name == "trial"], "the end of its thread")


def test_while_the_whole_process_stands_still_no_handler_counts_as_hanging(monkeypatch):
    passed, taken = [0.0], Taken()
    monkeypatch.setattr(isolation, "monotonic", lambda: time.monotonic() + passed[0])
    polls = SimpleNamespace(number=0)
    poll = isolation._Lap._hangs

    def counted(lap: Any) -> bool:
        polls.number += 1
        return poll(lap)

    monkeypatch.setattr(isolation._Lap, "_hangs", counted)
    monkeypatch.setattr(isolation, "HANG_SECONDS", LONG)

    def stand_still(delivery: str) -> str:
        passed[0] += 2 * LONG
        before = polls.number
        wait_until(lambda: polls.number > before + 1, "a poll after the pause")
        return delivery

    run = IsolatedRun(stand_still, taken, math.inf)
    assert (run.run(["A", "B"]), run.left_behind, taken.results) == (2, 0, {"A": "A", "B": "B"})


def test_a_thread_that_is_abandoned_while_others_are_counted_fails_no_read(monkeypatch):
    class Abandoned(threading.Thread):
        def is_alive(self) -> bool:
            hanging.add(threading.Thread())
            return False

    hanging: set[threading.Thread] = {Abandoned(), Abandoned()}
    monkeypatch.setattr(isolation, "_hanging", hanging)
    taken = Taken()
    assert IsolatedRun(str, taken, until=math.inf).run(["A1"]) == 1
    assert taken.results == {"A1": "A1"}
