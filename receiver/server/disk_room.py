"""Finds out whether the disk of a SQLite file still has room: while it is full, nothing can be stored."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from receiver.database.urls import file_of

#: Bytes below which a commit may fail at any moment, since the log grows by as much before it is copied; and below
#: which somebody should look, because the log keeps up to 64 MiB, and more beside a long reader.
FAILS_BELOW, SHORT_BELOW = 16 << 20, 256 << 20

#: The part of a small disk that is enough room: an empty disk of less than `SHORT_BELOW` is not short of it.
ENOUGH_OF_A_SMALL_DISK = 1 / 4


@dataclass(frozen=True, slots=True)
class Shortage:
    """Too little room on a disk, in one sentence with what to do."""

    says: str
    #: Whether commits fail, or may at any moment.
    is_urgent: bool


def shortages(url: str) -> Iterator[Shortage]:
    """Yield the shortage on the disk of a SQLite file, if there is one; nothing for any other database."""
    file = file_of(url)
    if file is None:
        return
    with suppress(ValueError, OSError):
        folder = Path(os.path.realpath(file)).parent
        found = os.statvfs(folder)
        if found.f_blocks == 0 or found.f_flag & os.ST_RDONLY:
            # Some file systems, such as a tmpfs without a limit, count nothing; and a read-only one is no fuller later.
            return
        # What the system keeps for root is no room for another user.
        left = found.f_frsize * (found.f_bfree if os.geteuid() == 0 else found.f_bavail)
        enough = min(SHORT_BELOW, int(found.f_frsize * found.f_blocks * ENOUGH_OF_A_SMALL_DISK))
        if left < max(FAILS_BELOW, enough):
            effect = "commits fail when it is full, and senders get 503"
            yield Shortage(
                f"{left / 1e6:.0f} MB are free in {folder}: free some space, since {effect}", left < FAILS_BELOW
            )
