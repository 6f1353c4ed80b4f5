"""The files of a SQLite database, and whether one was moved, removed or replaced while this process has it open.

SQLite would continue to write to such a file, and everything acked since would be lost with it.
"""

from __future__ import annotations

import fcntl
import sqlite3
import threading
from dataclasses import dataclass, field
from os import stat

#: The suffixes of the log, of the log's index, and of the file with the marks of doubts.
LOG, INDEX, DOUBTS = "-wal", "-shm", "-sound"

#: The suffixes of the files that each connection opens.
OPENED = ("", LOG, INDEX)

MOVED = "the file was moved or removed while it was open"

BESIDE_MOVED = "a file beside the database (-wal, -shm or -sound) was moved or removed while it was open"

#: The device and inode of a file; None without a file.
PlaceOnDisk = tuple[int, int] | None


@dataclass(slots=True)
class _Open:
    """The files of one database, as the first connection of this process found them."""

    connections: int = 0
    files: dict[str, PlaceOnDisk] = field(default_factory=dict)


#: The databases that this process has open, by path.
_databases: dict[str, _Open] = {}

_changing = threading.Lock()


def note_opened(path: str) -> None:
    """Count a connection to this database, which has read it. The files of the first connection are remembered.

    SQLite keeps them as long as a connection is open.
    """
    with _changing:
        found = _databases.setdefault(path, _Open())
        if not found.connections:
            found.files = {suffix: _identity(path + suffix) for suffix in OPENED}
        found.connections += 1


def note_closed(path: str) -> None:
    with _changing:
        found = _databases[path]
        found.connections -= 1
        if not found.connections:
            del _databases[path]


def is_open(path: str) -> bool:
    """Whether a connection of this process has this database open."""
    return path in _databases


def keep_watch(path: str, suffix: str) -> None:
    """Remember a further file beside this database, which this process has opened."""
    with _changing:
        # A new dictionary, because another thread may be in the middle of a check.
        _databases[path].files = {**_databases[path].files, suffix: _identity(path + suffix)}


def missing(path: str) -> list[str]:
    """The suffixes of the files that are not in their place, or have been replaced."""
    known = _databases[path].files
    away = []
    for suffix, identity in known.items():
        present = _identity(path + suffix)
        if identity is None:
            # SQLite makes the log of a new database at its first write.
            known[suffix] = present
        elif present != identity:
            away.append(suffix)
    return away


def check(path: str) -> None:
    """Raise SQLite's error for a database that was moved, if a file is not in its place."""
    for suffix, identity in _databases[path].files.items():
        # Not by a function of its own, because two checks belong to each ack.
        try:
            found = stat(path + suffix)
        except OSError:
            break
        if (found.st_dev, found.st_ino) != identity:
            break
    else:
        return
    away = missing(path)
    if away:
        error = sqlite3.OperationalError(MOVED if "" in away else BESIDE_MOVED)
        error.sqlite_errorcode = sqlite3.SQLITE_READONLY_DBMOVED
        raise error


def lock(file: int) -> bool:
    """Lock an open file against other processes; False, at once, if another process has locked it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(file: int) -> None:
    fcntl.flock(file, fcntl.LOCK_UN)


def exists(path: str) -> bool:
    """Whether there is a file at this path."""
    return _identity(path) is not None


def _identity(path: str) -> PlaceOnDisk:
    try:
        found = stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
