"""SQLite's write-ahead log, where SQL does not reach: how much of it is copied, and how to write it again in its place.

The layouts are documented at https://sqlite.org/walformat.html and https://sqlite.org/fileformat2.html#walformat.
"""

from __future__ import annotations

import os
import struct

#: Bytes before the first frame, and before each frame's page.
HEADER, FRAME_HEADER = 32, 24

#: Places in the index (the file `-shm`) of two 4-byte numbers: the last frame that is committed, and the last that was
#: copied to the database.
LAST_FRAME, COPIED = 16, 96

#: Bytes that are written again at a time.
PORTION = 1 << 20

_FLAGS = os.O_RDWR | os.O_CLOEXEC

#: Flushes the written data, and the file's metadata only as far as reading needs it.
sync = getattr(os, "fdatasync", os.fsync)


class Wal:
    """The log of one database, for as long as a connection of this process has it open.

    Closing a file drops all locks that the process has on it, SQLite's among them: close every connection first.
    """

    def __init__(self, path: str, page_size: int) -> None:
        """Raises `OSError` if the database is not there or is not in WAL mode."""
        self._path = path + "-wal"
        self._frame = FRAME_HEADER + page_size
        # Numbers, because a file object that is dropped would close itself.
        self._data = os.open(path, _FLAGS)
        self._index = os.open(path + "-shm", _FLAGS)

    def frames(self) -> int:
        """Frames that are committed since the log last began from the start."""
        return self._number(LAST_FRAME)

    def copied(self) -> int:
        """Of these frames, the number that a checkpoint has copied, whether the copies are flushed or not."""
        return self._number(COPIED)

    def set_back(self) -> None:
        """Have the next checkpoint copy every frame again. Call it only while no checkpoint can run.

        Until then the log does not begin from the start, since it has frames that are not copied.
        """
        os.pwrite(self._index, struct.pack("=I", 0), COPIED)

    def sync_data(self) -> None:
        """Flush the database file. Raises `OSError`."""
        sync(self._data)

    def write_again(self, frames: int) -> None:
        """Write this many frames again unchanged, and flush them. Raises `OSError`.

        What was to be flushed and was not may count as flushed, so that only writing it again brings it to the disk.
        Hold a read transaction that keeps the log from beginning anew.
        """
        # SQLite locks nothing in this one.
        log = os.open(self._path, _FLAGS)
        try:
            end = HEADER + frames * self._frame
            for place in range(0, end, PORTION):
                os.pwrite(log, os.pread(log, min(PORTION, end - place), place), place)
            sync(log)
        finally:
            os.close(log)

    def close(self) -> None:
        os.close(self._data)
        os.close(self._index)

    def _number(self, place: int) -> int:
        return int(struct.unpack("=I", os.pread(self._index, 4, place))[0])


def size(path: str) -> int:
    """Bytes that the log of the database at this path takes on the disk."""
    try:
        return os.stat(path + "-wal").st_size
    except OSError:
        return 0
