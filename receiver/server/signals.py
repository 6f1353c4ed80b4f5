"""SIGHUP, which requests a process to read its settings again."""

from __future__ import annotations

import signal
from queue import SimpleQueue


class Requests:
    """The pending requests to reload: one for each SIGHUP since `listen`."""

    def __init__(self) -> None:
        # Only this kind of queue may be used in a signal handler.
        self._queue: SimpleQueue[bool] = SimpleQueue()

    def listen(self) -> None:
        """Handle SIGHUP as a request. To be called by the main thread, before the settings are read."""
        signal.signal(signal.SIGHUP, lambda *_: self.ask())

    def ask(self) -> None:
        self._queue.put(True)

    def end(self) -> None:
        """End the wait of the waiting thread."""
        self._queue.put(False)

    def wait(self) -> bool:
        """Wait for the next request, and merge requests that came meanwhile into one. False at the end."""
        going_on = self._queue.get()
        while going_on and not self._queue.empty():
            going_on = self._queue.get()
        return going_on


def stop_listening() -> None:
    """Ignore SIGHUP, which would otherwise kill a process during its orderly end."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
