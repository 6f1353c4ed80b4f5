"""Daemon threads as an executor, for calls of foreign code or of the system that may never return."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

Result = TypeVar("Result")


class DaemonThreads(Executor):
    """Runs each call on a daemon thread of its own: the end of the process does not wait for one that never returns."""

    def __init__(self, name: str) -> None:
        """`name` is the name of each thread."""
        self._name = name
        self._is_shut_down = False

    def shutdown(self, *_: Any, **_options: Any) -> None:
        """Begin no further call, and wait for none. The options of a pool of threads have no effect."""
        self._is_shut_down = True

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        """Run the call. Raises `RuntimeError` after `shutdown`, or if no thread can be started."""
        if self._is_shut_down:
            raise RuntimeError("no call begins after the shutdown")
        future: Future[Result] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                # The caller that waits for the result gets the error, as from a pool of threads.
                future.set_exception(error)
            else:
                future.set_result(result)

        threading.Thread(target=run, name=self._name, daemon=True).start()
        return future
