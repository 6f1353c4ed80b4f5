"""Files that a person names: they are read up to a bound, because a device such as /dev/zero has no end.

They may be pipes, such as a shell's `<(…)`. Without a writer, opening or reading a pipe would wait for ever.

A stamp tells whether a file has changed since it was read: written, replaced, put back, or reached by another link. It
is none of the content, which may be secret.
"""

from __future__ import annotations

import errno
import os
import select
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

#: The most bytes of a file with settings, secrets or a body.
LARGEST_FILE = 64 << 20

#: Seconds to wait for the writer of a pipe with settings or secrets, each time that it pauses.
WRITER_TIMEOUT = 10.0

#: The most bytes of one read.
LARGEST_READ = 1 << 20

#: The stamp of a file that is not there.
ABSENT_STAMP = ""

#: The stamps of the files that were read in the present block of `noting_stamps`.
_stamps: ContextVar[dict[str, str] | None] = ContextVar("stamps", default=None)


@contextmanager
def noting_stamps() -> Iterator[dict[str, str]]:
    """Collect the stamp of each file that `read_bounded` reads in this block, by its absolute path; none of a pipe.

    A file that is not there has a stamp, too, from which it has changed once it is.
    """
    stamps: dict[str, str] = {}
    token = _stamps.set(stamps)
    try:
        yield stamps
    finally:
        _stamps.reset(token)


def has_changed(path: str, stamp: str) -> bool:
    """Whether the file has another stamp now. False for a file that cannot be found, which its reader reports."""
    try:
        return _stamp(os.stat(path)) != stamp
    except OSError:
        return False


def _note_stamp(path: Path, file: int) -> None:
    stamps, status = _stamps.get(), os.fstat(file)
    if stamps is not None and stat.S_ISREG(status.st_mode):
        stamps[os.path.abspath(path)] = _stamp(status)


def _note_unreadable(path: Path) -> None:
    """Note the stamp of a file that cannot be opened."""
    stamps = _stamps.get()
    if stamps is not None:
        try:
            stamps[os.path.abspath(path)] = _stamp(os.stat(path))
        except OSError:
            stamps[os.path.abspath(path)] = ABSENT_STAMP


def _stamp(status: os.stat_result) -> str:
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns}"


def read_bounded(path: Path, *, most: int = LARGEST_FILE, timeout: float | None = None) -> bytes:
    """Read a whole file or pipe.

    Raises `OSError`, too for one with more than `most` bytes, and for a pipe into which nothing is written for
    `timeout` seconds.
    """
    content = bytearray()
    poll = select.poll()
    # Unbuffered, so that each wait is for the poll.
    with open(path, "rb", buffering=0, opener=_open_at_once) as file:
        # Before its content is read, so that a change meanwhile counts as one since then.
        _note_stamp(path, file.fileno())
        poll.register(file, select.POLLIN)
        while len(content) <= most:
            if not poll.poll(None if timeout is None else timeout * 1_000):
                raise OSError(errno.ETIMEDOUT, f"nothing was written into it for {timeout:.0f} seconds", str(path))
            part = file.read(min(LARGEST_READ, most + 1 - len(content)))
            if part == b"":
                return bytes(content)
            content += part or b""
    raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))


def _open_at_once(name: str, flags: int) -> int:
    """Open a file, without waiting for the writer of a pipe."""
    try:
        return os.open(name, flags | os.O_NONBLOCK)
    except OSError:
        _note_unreadable(Path(name))
        raise
