"""What a command has open until its end, such as the database in the settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar


class _Closable(Protocol):
    def close(self) -> object: ...


Opened = TypeVar("Opened", bound=_Closable)

_open: ContextVar[ExitStack] = ContextVar("_open")


@contextmanager
def ending_a_command() -> Iterator[None]:
    """Close at the end of the block what `closed_at_the_end` was given inside it, the last one first."""
    with ExitStack() as opened:
        token = _open.set(opened)
        try:
            yield
        finally:
            _open.reset(token)


def closed_at_the_end(opened: Opened) -> Opened:
    """Return the argument, which is closed when the command that runs has ended, in whatever way.

    A SQLite file that its last user does not close keeps its log beside it, with the last commits. If no command runs,
    as in a script that calls the function of one, the end of the process closes it.
    """
    running = _open.get(None)
    if running is not None:
        running.callback(opened.close)
    return opened
