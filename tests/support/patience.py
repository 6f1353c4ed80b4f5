"""Patience with a busy machine: time limits of ours that tests wait for in vain are raised, if nothing else is slow.

A machine that stands still for some seconds exceeds limits that a server keeps for its senders and readers: it answers
503, gives a call of an API back, or counts a handler as hanging. That is right, and no subject of most tests. A test
about such a limit sets it itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from waiting import TIMEOUT

from receiver.api import provenance, readiness, reads
from receiver.console import live
from receiver.database import shared_results
from receiver.database.sqlite import connections
from receiver.findings import watching
from receiver.ingest import gathering
from receiver.provenance import recomputation, why
from receiver.reconcile import seen
from receiver.runs import forecast
from receiver.worker import hydration, isolation, thread


@contextmanager
def more_patience() -> Iterator[None]:
    """Raise the limits in this process until the end of the block."""
    with pytest.MonkeyPatch.context() as patch:
        # Of a commit: for the next requests, and for those that wait for it.
        patch.setattr(gathering, "STALLED", TIMEOUT)
        patch.setattr(gathering, "COMMIT_TIMEOUT", TIMEOUT)
        patch.setattr(connections, "BUSY_TIMEOUT", int(TIMEOUT * 1_000))
        # Of a read: for its turn, and for its answer; and of the check whether the process is ready.
        patch.setattr(reads, "LONGEST_WAIT", TIMEOUT)
        patch.setattr(reads, "GRACE", TIMEOUT)
        patch.setattr(readiness, "ANSWER_SECONDS", TIMEOUT)
        patch.setattr(provenance, "TURN_SECONDS", TIMEOUT)
        patch.setattr(shared_results, "READ_TIMEOUT", TIMEOUT)
        # Of a database that does not answer, after which open pages are told.
        patch.setattr(live, "LONGEST_SILENCE", 10 * TIMEOUT)
        # Of an answer that is given in part when its time is over.
        patch.setattr(forecast, "MOST_SECONDS", 10 * TIMEOUT)
        for explaining in (why.explain_row, recomputation.recompute):
            patch.setitem(explaining.__kwdefaults__, "seconds", 10 * TIMEOUT)
        # Of a walk through a list, after which it writes how far it came.
        patch.setattr(seen, "SECONDS_AT_ONCE", TIMEOUT)
        # Of a dialect's code: of calls of an API in one pass, of a handler in a forecast, and of a process that hangs.
        patch.setattr(hydration, "BUDGET_SECONDS", TIMEOUT)
        patch.setattr(isolation, "HANG_SECONDS", TIMEOUT)
        patch.setattr(thread, "STANDSTILL_SECONDS", TIMEOUT)
        # A server's own round, which would otherwise come in the middle of the tests that make one themselves.
        patch.setattr(watching, "FIRST_ROUND_SECONDS", 60 * TIMEOUT)
        yield
