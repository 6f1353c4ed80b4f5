"""Files that a person names: they are read up to a bound, because a device such as /dev/zero has no end.

They may be pipes, such as a shell's `<(…)`. Without a writer, opening or reading a pipe would wait for ever.
"""

from __future__ import annotations

import errno
import os
import select
from pathlib import Path

#: The most bytes of a file with settings, secrets or a body.
LARGEST_FILE = 64 << 20

#: Seconds to wait for the writer of a pipe with settings or secrets, each time that it pauses.
WRITER_TIMEOUT = 10.0

#: The most bytes of one read.
LARGEST_READ = 1 << 20


def read_bounded(path: Path, *, most: int = LARGEST_FILE, timeout: float | None = None) -> bytes:
    """Read a whole file or pipe.

    Raises `OSError`, too for one with more than `most` bytes, and for a pipe into which nothing is written for
    `timeout` seconds.
    """
    content = bytearray()
    poll = select.poll()
    # Unbuffered, so that each wait is for the poll.
    with open(path, "rb", buffering=0, opener=_open_at_once) as file:
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
    return os.open(name, flags | os.O_NONBLOCK)
