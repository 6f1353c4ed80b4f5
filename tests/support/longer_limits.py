"""Limits of time of ours that tests wait for in vain, and what tests set them to. Imports nothing of ours.

A machine that stands still for some seconds exceeds limits that a server keeps for its senders and readers: it answers
503, gives a call of an API back, or counts a handler as hanging. That is right, and no subject of most tests. A test
about such a limit sets it itself.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

#: Most seconds that a test waits for anything.
TIMEOUT = 60.0

#: Seconds for a thread or process of ours to do its last step, when its server ends. One that hangs takes this long.
LAST_STEP = TIMEOUT / 3

#: By module, its limits in seconds; with a dot, the default of a keyword argument of a function.
LIMITS: dict[str, dict[str, float]] = {
    # Of a commit: for the next requests, and for those that wait for it.
    "receiver.ingest.gathering": {"STALLED": TIMEOUT, "STALLED_AGAIN": TIMEOUT, "COMMIT_TIMEOUT": TIMEOUT},
    # In milliseconds.
    "receiver.database.sqlite.connections": {"BUSY_TIMEOUT": int(TIMEOUT * 1_000)},
    # Of a read: for its turn, and for its answer; and of the check whether the process is ready.
    "receiver.api.reads": {"LONGEST_WAIT": TIMEOUT, "GRACE": TIMEOUT},
    "receiver.api.readiness": {"ANSWER_SECONDS": TIMEOUT, "READINESS_STATEMENT_SECONDS": TIMEOUT},
    "receiver.api.provenance": {"TURN_SECONDS": TIMEOUT},
    "receiver.database.shared_results": {"READ_TIMEOUT": TIMEOUT},
    # Of the measurements behind /metrics, which otherwise shows those of before.
    "receiver.api.exposition": {"STATEMENT_SECONDS": TIMEOUT},
    # Of a database that does not answer, after which open pages are told.
    "receiver.console.live": {"LONGEST_SILENCE": 10 * TIMEOUT},
    # Of an answer that is given in part when its time is over.
    "receiver.runs.forecast": {"MOST_SECONDS": 10 * TIMEOUT},
    "receiver.provenance.why": {"explain_row.seconds": 10 * TIMEOUT},
    "receiver.provenance.recomputation": {"recompute.seconds": 10 * TIMEOUT},
    # Of a walk through a list, after which it writes how far it came.
    "receiver.reconcile.seen": {"SECONDS_AT_ONCE": TIMEOUT},
    # Of a dialect's code: of calls of an API in one pass, of a handler in a forecast, and of a process that hangs.
    "receiver.worker.hydration": {"BUDGET_SECONDS": TIMEOUT},
    "receiver.worker.isolation": {"HANG_SECONDS": TIMEOUT},
    "receiver.worker.thread": {"STANDSTILL_SECONDS": TIMEOUT},
    # Of the end: for the answer to a posted change, for requests that an acceptor process still has, and for what is
    # still to be written. A thread that is left behind leaves a connection open, and the warning about that fails a
    # later test.
    "receiver.following.target": {"END_GRACE": LAST_STEP / 2},
    "receiver.server.acceptor_process": {"ACCEPTOR_STOP_SECONDS": LAST_STEP},
    "receiver.ingest.group_commit": {"COMMIT_STOP_TIMEOUT": LAST_STEP},
    "receiver.ingest.keeping": {"KEEPER_STOP_SECONDS": LAST_STEP},
    "receiver.findings.watching": {"WATCH_STOP_SECONDS": LAST_STEP},
    "receiver.server.registry": {"DEREGISTER_TIMEOUT": LAST_STEP},
    "receiver.server.renewal": {"RELOAD_STOP_TIMEOUT": LAST_STEP},
    "receiver.server.arrival_watch": {"LONGEST_WATCH_END": LAST_STEP},
    "receiver.runs.feeder": {"FEEDER_STOP_TIMEOUT": LAST_STEP},
}

#: The same for processes that tests start.
LIMITS_OF_PROCESSES: dict[str, dict[str, float]] = LIMITS | {
    # Of an examination of a new session, to find out whether a pooler gives it to others.
    "receiver.database.postgresql": {"PROBE_TIMEOUT": int(TIMEOUT)},
    # Of a reload's answers.
    "receiver.server.reloading": {"reload_settings.timeout": TIMEOUT},
}

#: Python code that raises the limits in a new process.
PATIENT = f"import runpy; runpy.run_path({str(Path(__file__))!r})['raise_limits']()"

#: The folder that, in PYTHONPATH, raises the limits in each Python that starts.
PATIENT_FOLDER = Path(__file__).with_name("patient")


def raise_limits() -> None:
    """Raise the limits of this process: of imported modules now, and of others when they are imported."""
    sys.meta_path.insert(0, _Raising())
    if str(PATIENT_FOLDER) not in sys.path:
        # Processes that this one starts may get its path.
        sys.path.insert(1, str(PATIENT_FOLDER))
    for name in LIMITS_OF_PROCESSES.keys() & sys.modules.keys():
        _raise_in(sys.modules[name], LIMITS_OF_PROCESSES[name])


def _raise_in(module: ModuleType, limits: Mapping[str, float]) -> None:
    for name, limit in limits.items():
        function, _, parameter = name.partition(".")
        if parameter:
            getattr(module, function).__kwdefaults__[parameter] = limit
        else:
            assert hasattr(module, name), name
            setattr(module, name, limit)


class _Raising:
    """Finds the modules with limits, and raises these as soon as a module is imported."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        limits = LIMITS_OF_PROCESSES.get(name)
        spec = None if limits is None else PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            _raise_in(module, limits)

        spec.loader.exec_module = exec_module
        return spec
