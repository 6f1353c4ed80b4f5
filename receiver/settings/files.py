"""Files that a person names: they are read up to a bound, because a device such as /dev/zero has no end."""

from __future__ import annotations

import errno
import os
from pathlib import Path

#: The most bytes of a file with settings, secrets or a body.
LARGEST_FILE = 64 << 20


def read_bounded(path: Path, *, most: int = LARGEST_FILE) -> bytes:
    """Read a whole file or pipe. Raises `OSError`, too for one with more than `most` bytes."""
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return content
