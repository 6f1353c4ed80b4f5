"""Open descriptors of this process, to show what is closed before the garbage collection would close it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def descriptors_of(file: Path) -> int:
    """Count this process's open descriptors of a file."""
    targets = []
    for each in Path("/proc/self/fd").iterdir():
        # The descriptor of the listing itself is closed by now.
        with suppress(FileNotFoundError):
            targets.append(os.readlink(each))
    return targets.count(os.path.realpath(file))
