"""Utilisation: the share of the time in which a process has a webhook that waits for its answer."""

from __future__ import annotations

import time
from collections.abc import Callable

#: The least seconds over which a share is measured.
MEASURED_OVER = 0.5


class Utilisation:
    """Measures the share window by window. Used by one event loop.

    The time of a webhook that waits counts whatever it waits for: the processor, the disk, or the database.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._window_began = clock()
        #: The seconds of this window in which a webhook waited, without the present wait, and the beginning of that.
        self._busy = 0.0
        self._since: float | None = None
        #: The share of the last window.
        self._share = 0.0

    def begin(self) -> None:
        """Note that a webhook waits from now on."""
        if self._since is not None:
            return
        now = self._clock()
        # So that a long time without webhooks does not count as a part of the window that begins with this one.
        self._end_window(now)
        self._since = now

    def end(self) -> None:
        """Note that none waits any more."""
        now = self._clock()
        self._count(now)
        self._since = None
        self._end_window(now)

    def share(self) -> float:
        """The share of the last complete window, from 0.0 to 1.0."""
        now = self._clock()
        self._count(now)
        self._end_window(now)
        return self._share

    def _count(self, now: float) -> None:
        if self._since is not None:
            self._busy += now - self._since
            self._since = now

    def _end_window(self, now: float) -> None:
        elapsed = now - self._window_began
        if elapsed >= MEASURED_OVER:
            self._share = self._busy / elapsed
            self._window_began, self._busy = now, 0.0
