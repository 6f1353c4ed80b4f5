"""Whether the SQLite file is known to be sound, and which process answers for that: shared by all that have it open."""

from __future__ import annotations

import fcntl
import os

#: What the name of the file ends in, beside the database.
SUFFIX = "-sound"

SOUND, DOUBTFUL = b"1", b"0"


class Soundness:
    """One byte in a file beside the database, and the lock of the process that makes the checkpoints.

    The byte means something only while somebody has the lock, or had it since this process opened the database.
    """

    def __init__(self, path: str) -> None:
        """Raises `OSError` if the file can neither be opened nor made."""
        self._file = os.open(path + SUFFIX, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def holds(self) -> bool:
        """Whether acks may be given."""
        return os.pread(self._file, 1, 0) == SOUND

    def doubt(self) -> None:
        """No process gives acks from now on."""
        os.pwrite(self._file, DOUBTFUL, 0)

    def confirm(self) -> None:
        os.pwrite(self._file, SOUND, 0)

    def take_charge(self) -> bool:
        """Become the process that makes the checkpoints, until `close`; False if another one is it."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        os.close(self._file)
