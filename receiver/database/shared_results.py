"""Results that simultaneous readers share, because reading them takes long."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from datetime import datetime
from threading import Lock
from time import monotonic
from typing import Generic, NamedTuple, TypeVar

from receiver.errors import Unavailable

Result = TypeVar("Result")

#: A large result is shared for this many times as long as reading it took, but for at least and at most these seconds.
#: Without the last, a process that was paused in the middle of reading would share the result for hours.
RESULT_REUSE, LEAST_REUSE, LONGEST_REUSE = 50, 1.0, 60.0

#: The longest wait for a result that another thread reads, in seconds.
READ_TIMEOUT = 5.0


class _Kept(NamedTuple, Generic[Result]):
    result: Result
    read_at: datetime
    state: Hashable
    #: The monotonic time until which it is shared.
    until: float


class SharedResult(Generic[Result]):
    """One result, read by one thread at a time, and shared for a while if it is large. Threads may share it."""

    def __init__(self, *, is_large: Callable[[Result], bool]) -> None:
        self._is_large = is_large
        self._reading = Lock()
        self._kept: _Kept[Result] | None = None

    def get(self, read: Callable[[], Result], *, now: datetime, state: Hashable = None) -> tuple[Result, datetime]:
        """The result, and the time at which it was read. Raises `Unavailable` if another thread takes long to read.

        `state` is what the caller knows of the thing that is read: a result that was read in another state is outdated.
        """
        # A thread that waited here uses the result of the previous one.
        if not self._reading.acquire(timeout=READ_TIMEOUT):
            raise Unavailable("Another request is still reading the same. Ask again later.")
        try:
            began = monotonic()
            kept = self._kept
            if kept is not None and kept.state == state and began < kept.until:
                return kept.result, kept.read_at
            self._kept = None
            result = read()
            if self._is_large(result):
                seconds = min(max((monotonic() - began) * RESULT_REUSE, LEAST_REUSE), LONGEST_REUSE)
                self._kept = _Kept(result, now, state, began + seconds)
            return result, now
        finally:
            self._reading.release()
