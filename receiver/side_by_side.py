"""Several calls at once, on threads that never hold up the end of the process, even if one of them hangs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")


def side_by_side(function: Callable[[Item], None], items: Sequence[Item], *, at_once: int) -> Iterator[None]:
    """Call it for each item, `at_once` at a time; yields after each that is done, and raises what one of them raised.

    An executor's threads would do, but the interpreter waits for them before it ends, and a thread that hangs in a
    stranger's code is never done.
    """
    waiting: SimpleQueue[Item] = SimpleQueue()
    done: SimpleQueue[BaseException | None] = SimpleQueue()
    for item in items:
        waiting.put(item)

    def work() -> None:
        while True:
            try:
                item = waiting.get_nowait()
            except Empty:
                return
            try:
                function(item)
            except BaseException as error:
                done.put(error)
            else:
                done.put(None)

    for _ in range(min(at_once, len(items))):
        threading.Thread(target=work, name="hydrate", daemon=True).start()
    for _ in items:
        if (error := done.get()) is not None:
            raise error
        yield
