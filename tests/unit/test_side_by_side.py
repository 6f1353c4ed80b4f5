"""Several calls at once, none of which can hold up the end of the process."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from receiver.side_by_side import side_by_side

HANGS = """
import threading
from receiver.side_by_side import side_by_side
begun = threading.Event()
next(side_by_side(lambda item: (begun.wait(), threading.Event().wait()) if item else begun.set(), [1, 0], at_once=2))
"""


def test_each_item_is_called_once_and_no_more_than_asked_at_once():
    lock, seen, running, most = threading.Lock(), [], [0], [0]

    def call(item: int) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        with lock:
            seen.append(item)
            running[0] -= 1

    assert len(list(side_by_side(call, range(50), at_once=3))) == 50
    assert sorted(seen) == list(range(50))
    assert most[0] <= 3


def test_calls_run_beside_each_other():
    meeting = threading.Barrier(4, timeout=30)
    assert len(list(side_by_side(lambda _: meeting.wait() and None, range(4), at_once=4))) == 4


def test_what_a_call_raises_is_raised_where_it_was_asked_for():
    with pytest.raises(KeyboardInterrupt, match="stop"):
        list(side_by_side(lambda _: (_ for _ in ()).throw(KeyboardInterrupt("stop")), [1], at_once=1))


def test_nothing_to_call_is_nothing_to_wait_for():
    assert list(side_by_side(print, [], at_once=8)) == []


def test_a_call_that_hangs_does_not_hold_up_the_end_of_the_process():
    assert subprocess.run([sys.executable, "-c", HANGS], timeout=30, check=False).returncode == 0
