"""Isolation: runs a dialect's code over deliveries for a read, on a thread that can be abandoned.

Python cannot end a thread. So a thread whose code does not return is abandoned, and the read continues without it. With
too many hanging threads, the process refuses further reads of this kind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic

from receiver.errors import Unavailable
from receiver.inbox.leases import Claimed
from receiver.worker.trial import Obstacle, Trial

#: Seconds for one delivery, after which the code is abandoned.
HANG_SECONDS = 1.0

#: Seconds between two polls of the thread.
ISOLATED_LOOK_SECONDS = 0.05

#: The most hanging threads of this process, and the most that one read may abandon.
MOST_HANGING, MOST_LEFT_BEHIND = 4, 2

HANGS = f"its handler did not return within {HANG_SECONDS:g} second"

#: Runs one delivery. Runs on a thread of the run.
TryOne = Callable[[Claimed], Trial]

#: Receives the result. Never called concurrently.
TakeOne = Callable[[Claimed, Trial], None]

_hanging: set[threading.Thread] = set()


@dataclass(slots=True)
class IsolatedRun:
    """Runs the deliveries of one read, one after the other, until a moment of the monotonic clock."""

    try_one: TryOne
    take: TakeOne
    until: float
    left_behind: int = 0

    def run(self, window: Sequence[Claimed]) -> int:
        """Run these in order, and return how many results were received: fewer than all once a bound is reached.

        Raises `Unavailable` if too many threads of this process hang.
        """
        done = 0
        while done < len(window) and not self.is_over:
            _refuse_if_many_hang()
            lap = _Lap(self.try_one, self.take, window[done:], self.until)
            lap.start()
            done += lap.wait()
            if lap.given_up is not None:
                self.take(lap.given_up, Trial([], Obstacle.HANGS, HANGS))
                self.left_behind += 1
                done += 1
        return done

    @property
    def is_over(self) -> bool:
        return monotonic() > self.until or self.left_behind >= MOST_LEFT_BEHIND


@dataclass(slots=True)
class _Lap:
    """One thread that runs deliveries."""

    try_one: TryOne
    take: TakeOne
    window: Sequence[Claimed]
    until: float
    #: The delivery at which the thread was abandoned.
    given_up: Claimed | None = None
    _done: int = 0
    #: The number of results at the last poll, and of polls since that found no further one.
    _seen: int = 0
    _still: int = 0
    #: Held while a result is received and while the thread is abandoned, so that no result follows the abandonment.
    _turn: threading.Lock = field(default_factory=threading.Lock)
    _thread: threading.Thread | None = None
    #: An error of our own code on the thread, not of the dialect's.
    _error: BaseException | None = None

    def start(self) -> None:
        # A daemon, because the interpreter would wait at exit for a thread that never returns.
        self._thread = threading.Thread(target=self._run, name="trial", daemon=True)
        self._thread.start()

    def wait(self) -> int:
        """Wait for the thread or abandon it; return how many results were received. Raises errors of our own code."""
        assert self._thread is not None
        while self._thread.is_alive():
            self._thread.join(ISOLATED_LOOK_SECONDS)
            with self._turn:
                if self._thread.is_alive() and self._hangs():
                    self.given_up = self.window[self._done]
                    _hanging.add(self._thread)
                    break
        if self._error is not None:
            raise self._error
        return self._done

    def _hangs(self) -> bool:
        """Poll whether the present delivery takes too long.

        It counts polls, not seconds: a process that was paused as a whole has not polled, and so finds nothing hanging.
        """
        self._still = self._still + 1 if self._done == self._seen else 0
        self._seen = self._done
        return self._done < len(self.window) and self._still * ISOLATED_LOOK_SECONDS > HANG_SECONDS

    def _run(self) -> None:
        try:
            self._try_all()
        except BaseException as error:
            # The waiting thread raises the error.
            self._error = error

    def _try_all(self) -> None:
        for claimed in self.window:
            if monotonic() > self.until:
                return
            trial = self.try_one(claimed)
            with self._turn:
                if self.given_up is not None:
                    return
                self.take(claimed, trial)
                self._done += 1


def is_left_behind() -> bool:
    """Whether the calling thread was abandoned, and so may not use the connection of the read."""
    return threading.current_thread() in _hanging


def _refuse_if_many_hang() -> None:
    for thread in [each for each in tuple(_hanging) if not each.is_alive()]:
        _hanging.discard(thread)
    if len(_hanging) >= MOST_HANGING:
        raise Unavailable(
            f"{len(_hanging)} handlers that such requests ran have not returned: mend them, and restart this process."
        )
