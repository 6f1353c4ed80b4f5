"""Standard error as a stream that neither raises nor waits for long, because no reader of the log may stop the program.

A pipe is full when its reader stands still, such as a pager or a collector of logs. Lines that cannot be written, there
or on a full disk, are dropped and counted.
"""

from __future__ import annotations

import os
import select
import sys
import threading
from io import TextIOWrapper

from receiver.logs.wording import counted

#: The file descriptors of standard output and of standard error, the last one of the standard streams.
STANDARD_OUTPUT, STANDARD_ERROR = 1, 2

#: Seconds to wait for room once; while there still is none, later lines are dropped at once.
ROOM_TIMEOUT = 0.1

#: Characters of a piece, whose bytes fit into a pipe that the system reports as writable.
PIECE = select.PIPE_BUF // 4


class Unfailing:
    """Standard error that drops lines instead of raising or waiting. Thread-safe."""

    def __init__(self) -> None:
        # One that the same thread may take again, because a signal handler may log in the middle of a line.
        self._turn = threading.RLock()
        self._dropped = 0
        #: Whether the last line was cut off.
        self._is_cut = False
        self._is_stuck = False

    def write(self, text: str) -> int:
        with self._turn:
            try:
                self._write_or_drop(text)
            # The interpreter's stream raises `RuntimeError` if a signal handler logs in the middle of a write.
            except (OSError, ValueError, AttributeError, RuntimeError):
                self._dropped += 1
        return len(text)

    def _write_or_drop(self, text: str) -> None:
        """Write the text, after the number of lines that were dropped before. Raises the errors of the stream."""
        if self._dropped and self._has_room():
            lost = f"{counted(self._dropped, 'line')} of the log could not be written to standard error.\n"
            _write("\n" * self._is_cut + lost)
            self._dropped, self._is_cut = 0, False
        for start in range(0, len(text), PIECE):
            if not self._has_room():
                self._dropped += 1
                self._is_cut = self._is_cut or start > 0
                break
            _write(text[start : start + PIECE])

    def flush(self) -> None:
        """Do nothing: every line is written at once."""

    def _has_room(self) -> bool:
        """Whether a piece can be written without a wait; waits for room, but not twice in a row in vain."""
        poll = select.poll()
        try:
            poll.register(sys.stderr.fileno(), select.POLLOUT)
        except ValueError:
            # A stream in memory, in place of the process's own.
            return True
        self._is_stuck = not poll.poll(0 if self._is_stuck else ROOM_TIMEOUT * 1_000)
        return not self._is_stuck


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def prepare_standard_streams() -> None:
    """Open the standard streams that the starter of this process has closed, and let them take every character.

    Otherwise the next file to be opened, such as the database, would get the number of standard error, on which
    libraries and the interpreter write their last words.
    """
    while (opened := os.open(os.devnull, os.O_RDWR)) <= STANDARD_ERROR:
        os.set_inheritable(opened, True)
    os.close(opened)
    # Libraries ask these streams whether they are a terminal.
    if sys.stdout is None:
        sys.stdout = open(STANDARD_OUTPUT, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 (stays open)
    if sys.stderr is None:
        sys.stderr = open(STANDARD_ERROR, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 (stays open)
    for stream in (sys.stdout, sys.stderr):
        # A locale such as C or de_DE.ISO-8859-1 has no letter for most of the catalog.
        if isinstance(stream, TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def forget_output() -> None:
    """Send standard output nowhere from now on, because the interpreter writes what is left of it at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, STANDARD_OUTPUT)
    os.close(nowhere)
