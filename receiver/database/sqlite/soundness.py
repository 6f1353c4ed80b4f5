"""Whether the SQLite file is known to be sound, and which process answers for that: shared by all that have it open."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
from contextlib import suppress

#: What the name of the file ends in, beside the database.
SUFFIX = "-sound"

#: Bytes by which one doubt differs from every other.
MARK = 8


class Soundness:
    """Two marks in a file beside the database, and the lock of the process that makes the checkpoints.

    The first is of the last doubt, the second of the last doubt that was lifted: while they differ, no acks are given.
    So a doubt that is raised while another one is being lifted stays. They mean something only while somebody has the
    lock, or had it since this process opened the database.
    """

    def __init__(self, path: str) -> None:
        """Raises `OSError` if the file can neither be opened nor made."""
        # No link, since root gives the file away.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(path + SUFFIX, flags, 0o600)
        try:
            _share(self._file, path)
        except OSError:
            os.close(self._file)
            raise
        self._telling = threading.Lock()
        #: Whether there is a doubt that could not be written down: then this process alone knows of it.
        self._untold = False

    def holds(self) -> bool:
        """Whether acks may be given."""
        try:
            marks = os.pread(self._file, 2 * MARK, 0)
        except OSError:
            return False
        return not self._untold and len(marks) == 2 * MARK and marks[:MARK] == marks[MARK:]

    def doubt(self) -> None:
        """Stop all processes from acking; this one also if the disk refuses the record of the doubt."""
        with self._telling:
            self._untold = True
            with suppress(OSError):
                self._tell()

    def tell(self) -> None:
        """Write a doubt down that could not be written before. Raises `OSError` if it still cannot be."""
        with self._telling:
            if self._untold:
                self._tell()

    def last_doubt(self) -> bytes:
        """What `confirm` lifts, if it is given it. Raises `OSError` for a doubt that cannot be written down."""
        self.tell()
        return os.pread(self._file, MARK, 0)

    def confirm(self, doubt: bytes) -> None:
        """The file was shown to be sound since this doubt: acks may be given, unless there is a later one."""
        os.pwrite(self._file, doubt, MARK)

    def take_charge(self) -> bool:
        """Become the process that makes the checkpoints, until `let_go`; False if another one is it."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def let_go(self) -> None:
        """Have another process make the checkpoints."""
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._file)

    def _tell(self) -> None:
        os.pwrite(self._file, os.urandom(MARK), 0)
        self._untold = False


def _share(file: int, path: str) -> None:
    """Let everybody use the file who may use the database, as SQLite does with the files that it makes beside it."""
    made, database = os.fstat(file), os.stat(path)
    if not stat.S_ISREG(made.st_mode) or made.st_nlink != 1:
        raise FileExistsError(errno.EEXIST, "something else is in its place", path + SUFFIX)
    if os.geteuid() not in (0, made.st_uid):
        return
    if (made.st_uid, made.st_gid) != (database.st_uid, database.st_gid):
        # Only root may give a file away; its owner may give it to a group of theirs.
        with suppress(PermissionError):
            os.fchown(file, database.st_uid if os.geteuid() == 0 else -1, database.st_gid)
    mode = stat.S_IMODE(database.st_mode) & 0o666
    if stat.S_IMODE(made.st_mode) != mode:
        os.fchmod(file, mode)
