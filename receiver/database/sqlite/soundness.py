"""The soundness of a SQLite file, and the process that proves it; shared by all processes that have the file open."""

from __future__ import annotations

import errno
import os
import stat
import threading
from contextlib import suppress

from receiver.database.sqlite import files
from receiver.database.sqlite.files import DOUBTS

#: Bytes of a mark, which is random and so unique to one doubt.
MARK = 8


class Soundness:
    """Two marks in a file beside the database, and the lock of the process that makes the checkpoints.

    The first mark is that of the last doubt, the second that of the last lifted doubt. While they differ, no acks are
    given, so a doubt raised while another one is being lifted stays. The marks are valid only if a process holds the
    lock, or has held it since this process opened the database.
    """

    def __init__(self, path: str) -> None:
        """Raises `OSError` if the file can neither be opened nor made."""
        # Links are not followed, because a process of root changes the owner of the file.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(path + DOUBTS, flags, 0o600)
        try:
            _share(self._file, path)
        except OSError:
            os.close(self._file)
            raise
        self._telling = threading.Lock()
        #: Whether a doubt could not be written, so that only this process knows of it.
        self._untold = False

    def holds(self) -> bool:
        """Whether acks may be given."""
        try:
            marks = os.pread(self._file, 2 * MARK, 0)
        except OSError:
            return False
        return not self._untold and len(marks) == 2 * MARK and marks[:MARK] == marks[MARK:]

    def doubt(self) -> None:
        """Stop all processes from acking; if the doubt cannot be written, only this one."""
        with self._telling:
            self._untold = True
            with suppress(OSError):
                self._tell()

    def tell(self) -> None:
        """Write a doubt that could not be written before. Raises `OSError` if that fails again."""
        with self._telling:
            if self._untold:
                self._tell()

    def last_doubt(self) -> bytes:
        """The mark of the last doubt, for `confirm`. Raises `OSError` for a doubt that cannot be written."""
        self.tell()
        return os.pread(self._file, MARK, 0)

    def confirm(self, doubt: bytes) -> None:
        """Lift this doubt, because the file was proved sound since it was raised. A later doubt stays."""
        os.pwrite(self._file, doubt, MARK)

    def take_charge(self) -> bool:
        """Become the process that makes the checkpoints, until `let_go`; False if another process is in charge."""
        return files.lock(self._file)

    def let_go(self) -> None:
        """Release the lock, so that another process can make the checkpoints."""
        files.unlock(self._file)

    def close(self) -> None:
        os.close(self._file)

    def _tell(self) -> None:
        os.pwrite(self._file, os.urandom(MARK), 0)
        self._untold = False


def _share(file: int, path: str) -> None:
    """Give the file the owner, group and mode of the database, as SQLite does with its own files beside it."""
    made, database = os.fstat(file), os.stat(path)
    if not stat.S_ISREG(made.st_mode) or made.st_nlink != 1:
        raise FileExistsError(errno.EEXIST, "something else is in its place", path + DOUBTS)
    if os.geteuid() not in (0, made.st_uid):
        return
    if (made.st_uid, made.st_gid) != (database.st_uid, database.st_gid):
        # Only root may change the owner of a file; the owner may change its group to another one of theirs.
        with suppress(PermissionError):
            os.fchown(file, database.st_uid if os.geteuid() == 0 else -1, database.st_gid)
    mode = stat.S_IMODE(database.st_mode) & 0o666
    if stat.S_IMODE(made.st_mode) != mode:
        os.fchmod(file, mode)
