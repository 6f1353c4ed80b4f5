"""Limits of time in the product that a busy machine exceeds, and higher ones for tests.

A machine that stands still for some seconds exceeds limits that a server keeps for its senders and readers: it answers
503, gives a call of an API back, or counts a handler as hanging. That is right, and not the subject of most tests. A
test about such a limit sets it itself. This module imports nothing of ours, because it runs first in each process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

#: Most seconds that a test waits for anything.
TIMEOUT = 60.0

#: Most seconds for the last step of a thread or process when its server ends. One that hangs delays the end by this.
LAST_STEP = TIMEOUT / 3

#: By module, what its limits in seconds are raised to. A name with a dot is the default of a function's argument.
LIMITS: dict[str, dict[str, float]] = {
    # A commit: for the next requests, and for those that wait for it.
    "receiver.ingest.gathering": {"STALLED": TIMEOUT, "STALLED_AGAIN": TIMEOUT, "COMMIT_TIMEOUT": TIMEOUT},
    # A write that waits for another program, in milliseconds.
    "receiver.database.sqlite.connections": {"BUSY_TIMEOUT": int(TIMEOUT * 1_000)},
    # The check of a new session, to find out whether a pooler gives it to others, too.
    "receiver.database.postgresql": {"PROBE_TIMEOUT": int(TIMEOUT)},
    # A read: its wait for its turn, and its answer; and the check whether the process is ready.
    "receiver.api.reads": {"LONGEST_WAIT": TIMEOUT, "GRACE": TIMEOUT},
    "receiver.api.readiness": {"ANSWER_SECONDS": TIMEOUT, "READINESS_STATEMENT_SECONDS": TIMEOUT},
    "receiver.api.provenance": {"TURN_SECONDS": TIMEOUT},
    "receiver.database.shared_results": {"READ_TIMEOUT": TIMEOUT},
    # The measurements behind /metrics, which otherwise shows earlier ones.
    "receiver.api.exposition": {"STATEMENT_SECONDS": TIMEOUT},
    # The silence of the database after which open pages are told.
    "receiver.console.live": {"LONGEST_SILENCE": 10 * TIMEOUT},
    # An answer that is given in part when its time is over.
    "receiver.runs.forecast": {"MOST_SECONDS": 10 * TIMEOUT},
    "receiver.provenance.why": {"explain_row.seconds": 10 * TIMEOUT},
    "receiver.provenance.recomputation": {"recompute.seconds": 10 * TIMEOUT},
    # The part of a walk through a list after which it records its progress.
    "receiver.reconcile.seen": {"SECONDS_AT_ONCE": TIMEOUT},
    # A dialect's code: the calls of an API in one pass, a handler in a forecast, and a process that hangs.
    "receiver.worker.hydration": {"BUDGET_SECONDS": TIMEOUT},
    "receiver.worker.isolation": {"HANG_SECONDS": TIMEOUT},
    "receiver.worker.thread": {"STANDSTILL_SECONDS": TIMEOUT},
    # The answers of the processes that are asked to reload.
    "receiver.server.reloading": {"RELOAD_TIMEOUT": TIMEOUT},
    # The end: of a posted change, of the requests in an acceptor process, and of what is still to be written. A thread
    # that is left behind leaves a connection open, and the warning about that fails a later test.
    "receiver.following.target": {"END_GRACE": LAST_STEP / 2},
    "receiver.server.acceptor_starts": {"ACCEPTOR_STOP_SECONDS": LAST_STEP},
    "receiver.ingest.group_commit": {"COMMIT_STOP_TIMEOUT": LAST_STEP},
    "receiver.ingest.keeping": {"KEEPER_STOP_SECONDS": LAST_STEP},
    "receiver.findings.watching": {"WATCH_STOP_SECONDS": LAST_STEP},
    "receiver.server.registry": {"DEREGISTER_TIMEOUT": LAST_STEP},
    "receiver.server.renewal": {"RELOAD_STOP_TIMEOUT": LAST_STEP},
    "receiver.server.arrival_watch": {"LONGEST_WATCH_END": LAST_STEP},
    "receiver.runs.feeder": {"FEEDER_STOP_TIMEOUT": LAST_STEP},
}

#: Python code that raises the limits in a process that has begun, such as a forked one.
PATIENT = f"import runpy; runpy.run_path({str(Path(__file__))!r})['raise_limits']()"

#: The folder that, in PYTHONPATH, raises the limits in each Python that starts.
PATIENT_FOLDER = Path(__file__).with_name("patient")


def with_patience() -> dict[str, str]:
    """The variable of the environment with which each Python that starts raises the limits."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(PATIENT_FOLDER), os.environ.get("PYTHONPATH")]))}


def limits_of(module: ModuleType) -> Iterator[tuple[dict[str, Any], str, float]]:
    """For each limit of a module: the names or defaults that it is one of, its name there, and its raised value."""
    for name, raised in LIMITS[module.__name__].items():
        function, _, own_name = name.rpartition(".")
        among = getattr(module, function).__kwdefaults__ if function else vars(module)
        assert own_name in among, f"{module.__name__} has no {name}"
        yield among, own_name, raised


def raise_limits() -> None:
    """Raise the limits of this process: of imported modules now, and of others as soon as they are imported.

    A process that imports little stays as fast as it is.
    """
    sys.meta_path.insert(0, _Raising())
    if str(PATIENT_FOLDER) not in sys.path:
        # An acceptor process gets the path of the process that starts it.
        sys.path.insert(1, str(PATIENT_FOLDER))
    for name in LIMITS.keys() & sys.modules.keys():
        _raise_in(sys.modules[name])


def _raise_in(module: ModuleType) -> None:
    for among, name, raised in limits_of(module):
        among[name] = raised


class _Raising:
    """Finds the modules with limits, and raises these as soon as a module is imported."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in LIMITS else None
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            _raise_in(module)

        spec.loader.exec_module = exec_module
        return spec
