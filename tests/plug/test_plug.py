"""Kill any process at any instant: nothing that was acked is lost, and nothing is applied twice."""

from __future__ import annotations

import asyncio

import pytest
from killing import DATABASES, run
from scene import RATE

#: Acknowledges before the commit, like a receiver that hands over to a background task.
ACK_FIRST = """
import threading, time
from receiver.inbox.arrival import Accepted
from receiver.inbox.inbox import Inbox

accept = Inbox.accept

def accept_later(self, arrivals):
    for arrival in arrivals:
        arrival.id = self._ids.draw()
    threading.Thread(target=lambda: (time.sleep(0.2), accept(self, arrivals))).start()
    return [Accepted("accepted", arrival.id) for arrival in arrivals]

Inbox.accept = accept_later
"""

#: Settles in two transactions: the effect first, and the delivery's end a moment later.
SETTLE_TWICE = """
import time
from receiver.inbox.inbox import Inbox

settle = Inbox.settle

def settle_later(self, connection, *arguments, **named):
    connection.exec_driver_sql("COMMIT")
    time.sleep(0.15)
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    settle(self, connection, *arguments, **named)

Inbox.settle = settle_later
"""


@pytest.mark.parametrize("database", DATABASES)
def test_after_kills_at_any_instant_nothing_is_lost_applied_twice_or_stuck_and_the_mirror_is_right(database):
    verdict = asyncio.run(run(database, kills=12, seed=20260304, rate=RATE, pause=0.4))
    assert sum(verdict.kills.values()) == 12
    assert verdict.acked == verdict.events > 100
    assert verdict.good, "\n".join(verdict.lines())


def test_after_kills_of_acceptor_processes_nothing_is_lost_either():
    # Each acceptor process starts an interpreter of its own, and meanwhile everything is refused and sent again.
    verdict = asyncio.run(run("sqlite", kills=5, seed=20261128, rate=10, pause=0.4, acceptors=True, each=1))
    assert verdict.kills["acceptor"] > 0
    assert verdict.acked == verdict.events > 50
    assert verdict.good, "\n".join(verdict.lines())


@pytest.mark.long
def test_the_counts_show_acks_that_come_before_their_commit():
    verdict = asyncio.run(run("sqlite", kills=8, seed=1, rate=60, pause=0.4, sabotage=ACK_FIRST))
    assert verdict.lost > 0
    assert verdict.diverged > 0
    assert not verdict.good


@pytest.mark.long
def test_the_counts_show_effects_that_are_committed_before_their_end():
    verdict = asyncio.run(run("sqlite", kills=14, seed=2, rate=20, pause=0.4, sabotage=SETTLE_TWICE))
    assert verdict.half_applied + verdict.feed_wrong > 0
    assert not verdict.good
