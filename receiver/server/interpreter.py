"""Tunes the interpreter of a serving or working process: the switching of threads, and garbage collection."""

from __future__ import annotations

import gc
import sys

#: Seconds after which a waiting thread gets the interpreter; Python's default is 0.005.
SWITCH_INTERVAL = 0.0002

#: New containers after which Python searches for garbage in cycles. A batch allocates thousands and frees them by
#: reference counts; with Python's default of 700, the search took a tenth of the worker's time.
GARBAGE = 20_000


def tune_interpreter() -> None:
    """Tune the interpreter, after all modules are imported and the application is built."""
    # The thread of the group commit needs the interpreter for a moment several times a commit: shorten each wait.
    sys.setswitchinterval(SWITCH_INTERVAL)
    # Existing objects stay alive; without this, every full collection would traverse all imported modules again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE)
