"""Folders for temporary files in memory, each of one process, and the removal of those whose process is gone."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path

#: What the names of the folders begin with, and the file in each that its process keeps locked.
PREFIX, LOCK = "hookmirror-tests-", "lock"


def claim_folder(memory: Path) -> Path:
    """A folder of this process's own below `memory`, until the process ends, however it ends."""
    folder = memory / f"{PREFIX}{os.getpid()}-{os.urandom(4).hex()}"
    folder.mkdir()
    # The server of the tests runs as another user, and must get through.
    folder.chmod(0o711)
    # Never closed: the system lets go of the lock when the process has ended.
    fcntl.flock(os.open(folder / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC), fcntl.LOCK_EX)
    return folder


def remove_abandoned(memory: Path) -> None:
    """Remove the folders below `memory` that `claim_folder` made for processes that are gone."""
    for folder in memory.glob(f"{PREFIX}*"):
        # A folder without its file is one that a process makes just now, or removes.
        with suppress(OSError):
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
