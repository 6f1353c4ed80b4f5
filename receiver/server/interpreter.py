"""The interpreter of a process that serves or works: how it shares its time among threads, and collects garbage."""

from __future__ import annotations

import gc
import sys

#: Seconds after which a thread that waits for the interpreter may have it; Python's own default is 0.005.
SWITCH_INTERVAL = 0.0002

#: New containers after which Python looks for garbage in cycles. A batch makes thousands that are no garbage, and frees
#: them by itself; with Python's own 700, looking cost the worker a tenth of its time.
GARBAGE = 20_000


def tune_interpreter() -> None:
    """For a process that serves or works, once all is built."""
    # The thread of the group commit needs the interpreter for a moment several times a commit: shorten each wait.
    sys.setswitchinterval(SWITCH_INTERVAL)
    # The present objects stay: without this, every full collection would walk through all imported modules again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE)
