"""Direct access to SQLite's write-ahead log: counts its copied frames, and writes the log again in place.

The layouts are documented at https://sqlite.org/walformat.html and https://sqlite.org/fileformat2.html#walformat.
"""

from __future__ import annotations

import os
import struct
import sys

from receiver.database.sqlite import files
from receiver.database.sqlite.files import INDEX, LOG

#: Bytes before the first frame, and before each frame's page.
HEADER, FRAME_HEADER = 32, 24

#: Offsets in the index (the file `-shm`) of two 4-byte numbers: the last committed frame, and the last copied frame.
LAST_FRAME, COPIED = 16, 96

#: Bytes of one write when the log is written again.
PORTION = 1 << 20

_FLAGS = os.O_RDWR | os.O_CLOEXEC

#: Flushes the written data, and the file's metadata only as far as reading needs it.
sync = getattr(os, "fdatasync", os.fsync)


class Wal:
    """The log of one database, for as long as a connection of this process has it open.

    Closing a file drops all locks that the process has on it, SQLite's among them: close every connection first.
    """

    def __init__(self, path: str, page_size: int) -> None:
        """Raises `OSError` for a database that does not exist or is not in WAL mode."""
        self._frame = FRAME_HEADER + page_size
        # Descriptors, because a file object would close itself when it is garbage-collected. They stay open, because
        # a file that is removed may be replaced by another one of its name.
        self._data = os.open(path, _FLAGS)
        self._log = os.open(path + LOG, _FLAGS)
        self._index = os.open(path + INDEX, _FLAGS)

    def claim(self) -> bool:
        """Reserve the database, by whatever name, for processes with this log; False if one with another has it.

        Only on Linux, where this lock does not meet SQLite's own.
        """
        return sys.platform != "linux" or files.lock(self._data)

    def release(self) -> None:
        """Undo `claim`."""
        files.unlock(self._data)

    def frames(self) -> int:
        """The number of frames committed since the log last started over."""
        return self._number(LAST_FRAME)

    def copied(self) -> int:
        """The number of these frames that checkpoints have copied, whether or not the copies are flushed."""
        return self._number(COPIED)

    def set_back(self) -> None:
        """Have the next checkpoint copy every frame again. Call it only while no checkpoint can run.

        Until then the log does not start over, because it has frames that are not copied.
        """
        os.pwrite(self._index, struct.pack("=I", 0), COPIED)

    def sync_data(self) -> None:
        """Flush the database file. Raises `OSError`."""
        sync(self._data)

    def write_again(self, frames: int) -> None:
        """Write this many frames again unchanged, and flush them. Raises `OSError`.

        After a failed flush, the system may count the data as flushed, so only writing the data again brings it to the
        disk. The caller must hold a read transaction, so that the log does not start over.
        """
        end = HEADER + frames * self._frame
        for place in range(0, end, PORTION):
            os.pwrite(self._log, os.pread(self._log, min(PORTION, end - place), place), place)
        sync(self._log)

    def close(self) -> None:
        os.close(self._data)
        os.close(self._log)
        os.close(self._index)

    def _number(self, place: int) -> int:
        return int(struct.unpack("=I", os.pread(self._index, 4, place))[0])


def stamp(path: str) -> tuple[int, int]:
    """The size of the log of the database at this path and the time of its last write; zeros without a log."""
    try:
        found = os.stat(path + LOG)
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def size(path: str) -> int:
    """Bytes that the log of the database at this path takes on the disk."""
    try:
        return os.stat(path + LOG).st_size
    except OSError:
        return 0
