"""Folders in memory for temporary files, one for each process, and the removal of those left by ended processes."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path

#: The beginning of the folders' names, and the file in each that its process keeps locked.
PREFIX, LOCK = "hookmirror-tests-", "lock"


def claim_folder(memory: Path) -> Path:
    """Make a folder below `memory` that belongs to this process until it ends, even by a kill."""
    while True:
        folder = memory / f"{PREFIX}{os.getpid()}-{os.urandom(4).hex()}"
        folder.mkdir()
        # The tests' PostgreSQL server runs as another user and must be able to enter.
        folder.chmod(0o711)
        # Never closed: the system releases the lock when the process ends.
        lock = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / LOCK).exists():
            return folder
        # Another process that started at the same time took the folder for abandoned before it was locked.
        os.close(lock)


def remove_abandoned(memory: Path) -> None:
    """Remove the folders below `memory` that `claim_folder` made for processes which have ended."""
    for folder in memory.glob(f"{PREFIX}*"):
        # A folder without its lock file is being made or removed by another process.
        with suppress(OSError):
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
