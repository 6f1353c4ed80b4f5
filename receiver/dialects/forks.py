"""Forks: recognises and ends a copy of this process that a dialect's code has made and left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from receiver.logs.standard_error import STANDARD_ERROR

FORKED = (
    b"hookmirror: a function of a dialect forked the process, and its code returned in the child, which was ended: end "
    b"a child by os._exit, or use `subprocess`.\n"
)


class Forks:
    """Counts the forks between the first process and this one, because to ask for its id takes longer."""

    def __init__(self) -> None:
        self.number = 0
        os.register_at_fork(after_in_child=self._count)

    def _count(self) -> None:
        self.number += 1


FORKS = Forks()


@contextmanager
def ending_forks() -> Iterator[None]:
    """End a process that a dialect's code in the block forked, and in which it came back."""
    number = FORKS.number
    try:
        yield
    finally:
        if FORKS.number != number:
            end_fork()


def end_fork() -> NoReturn:
    """End this process, which a dialect's code forked from ours and did not end.

    It would be a second server, or a second worker with the name of the first. It would use the connections of the
    first to the database, and keep the listening socket open.
    """
    # Not logged, because a thread that the fork left behind may have held a lock.
    with suppress(OSError):
        os.write(STANDARD_ERROR, FORKED)
    os._exit(1)
