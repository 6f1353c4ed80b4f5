"""Time limits for many short waits, at the price of one timer instead of one each (docs/decisions/0003)."""

from __future__ import annotations

import asyncio
from types import TracebackType

#: How many times within the limit the waits are looked at: a wait may last this fraction longer than the limit.
LOOKS = 4


class Patience:
    """Ends what waits longer than `seconds` with `TimeoutError`. For the tasks of one event loop.

    with patience:
        await something
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        #: By task, when its wait began; None once it has been ended.
        self._waits: dict[asyncio.Task[object], float | None] = {}
        self._timer: asyncio.TimerHandle | None = None
        #: Kept, because asking for the running loop costs a system call each time.
        self._loop: asyncio.AbstractEventLoop | None = None

    def __enter__(self) -> None:
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        self._waits[self._task()] = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(self._seconds / LOOKS, self._look, loop)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task = self._task()
        ended = self._waits.pop(task) is None
        if ended and task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _task(self) -> asyncio.Task[object]:
        task = asyncio.current_task(self._loop)
        assert task is not None, "only a task can wait"
        return task

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        overdue = loop.time() - self._seconds
        for task, began in list(self._waits.items()):
            if began is not None and began <= overdue:
                self._waits[task] = None
                task.cancel()
        self._timer = loop.call_later(self._seconds / LOOKS, self._look, loop) if self._waits else None
