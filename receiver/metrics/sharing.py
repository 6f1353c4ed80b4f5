"""Allocates the files of metrics that several processes share.

Each process maps files of its own into its memory. If a file has no allocated blocks and the disk is full, the first
count ends the process (SIGBUS). So the blocks are allocated first, and without room a process counts for itself.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

#: The variable with the folder in which several processes share their metrics. It must be set before they start. Each
#: count then goes to a mapped file instead of a number, which takes longer.
SHARED_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

#: The kinds of metrics, with the modes of ours, after which prometheus_client names its files.
KINDS = ("counter", "histogram", "gauge_mostrecent", "gauge_livesum")

#: The kinds whose values add up, so that those of ended processes stay.
ADDED_KINDS = ("counter", "histogram")

#: Bytes of a new file, as prometheus_client makes it; it uses an existing file as it is.
NEW_FILE_BYTES = 1 << 20

#: More than the bytes of one count in a file beside its name.
_COUNT_BYTES = 32

#: The beginning of the name of each folder, and the file in it that the processes of one server hold a lock on.
FOLDER_PREFIX, IN_USE = "hookmirror-metrics-", "in-use"

#: Seconds for which a folder without a lock counts as one whose server is starting.
NEW_FOLDER_SECONDS = 60.0

_refusals: list[str] = []

#: The descriptors of files that stay locked until this process ends.
_held: list[int] = []


def reserve() -> None:
    """Allocate the files of this process's metrics; to be called before the first import of prometheus_client.

    Without room, the process shares nothing, and `unshared` returns why.
    """
    folder = os.environ.get(SHARED_VARIABLE, "").strip()
    if not folder:
        os.environ.pop(SHARED_VARIABLE, None)
        return
    files = [Path(folder) / f"{kind}_{os.getpid()}.db" for kind in KINDS]
    # Other processes read each file that ends in `.db`, and an empty one is an error to them.
    news = {file: file.with_suffix(".new") for file in files if not file.exists()}
    try:
        for file in files:
            _fill(news.get(file, file))
        for file, new in news.items():
            new.rename(file)
        if (Path(folder) / IN_USE).exists():
            hold(Path(folder))
    except OSError as error:
        for file in (*files, *news.values()):
            file.unlink(missing_ok=True)
        del os.environ[SHARED_VARIABLE]
        _refusals.append(f"there is no room for shared metrics in {folder} ({error.strerror})")


def unshared() -> str | None:
    """The reason for which this process cannot share its metrics; None if it shares them, or need not."""
    return _refusals[0] if _refusals else None


def forget(pid: int, folder: Path) -> bool:
    """Remove the files of an ended process that shared this folder; its counts are added to those of ended ones.

    Returns False, and changes nothing, while any process reads the folder: its reader may stand still for ever. If
    removing fails, as without room, the counts stay in the files of that process.
    """
    # Every error, because the supervisor must go on: also that of a folder that is gone, or of a damaged file.
    with suppress(Exception):
        try:
            with locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
                _remove_files(pid, folder)
        except BlockingIOError:
            return False
    return True


def _remove_files(pid: int, folder: Path) -> None:
    for file in (*folder.glob(f"gauge_*_{pid}.db"), *folder.glob(f"*_{pid}.new")):
        file.unlink(missing_ok=True)
    for kind in ADDED_KINDS:
        own = folder / f"{kind}_{pid}.db"
        if own.exists():
            _add_to(folder / f"{kind}_ended.db", own)


def _add_to(kept: Path, ended: Path) -> None:
    """Add the counts of an ended process to the kept ones, and remove its file. Raises `OSError` without room."""
    # Imported here, because the supervisor counts nothing, and needs this only when a process has ended.
    from prometheus_client.mmap_dict import MmapedDict

    if not kept.exists():
        ended.rename(kept)
        return
    counts = list(MmapedDict.read_all_values_from_file(str(ended)))  # type: ignore[no-untyped-call]
    with closing(MmapedDict(str(kept), read_mode=True)) as sums:  # type: ignore[no-untyped-call]
        used = sums._used
    # Room for all counts as new ones, so that the mapped file never grows without blocks.
    _fill(kept, used + sum(len(key.encode()) + _COUNT_BYTES for key, *_ in counts))
    with closing(MmapedDict(str(kept))) as sums:  # type: ignore[no-untyped-call]
        for key, value, *_ in counts:
            before, _ = sums.read_value(key)  # type: ignore[no-untyped-call]
            sums.write_value(key, before + value, 0.0)  # type: ignore[no-untyped-call]
    ended.unlink()


@contextmanager
def locked(folder: Path, how: int) -> Iterator[None]:
    """Hold a lock of `flock` on the folder, so that a process never reads counts while they are moved."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


# ── folders of servers that were killed ───────────────────────────────────────────────────────────────────────────


def hold(folder: Path) -> None:
    """Mark the folder as used by this process until it ends."""
    descriptor = os.open(folder / IN_USE, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    _held.append(descriptor)


def remove_abandoned(parent: Path) -> None:
    """Remove the folders of servers that were killed: ours, and no longer used by any process."""
    for folder in parent.glob(f"{FOLDER_PREFIX}*"):
        # A folder that cannot be examined or removed does no harm.
        with suppress(OSError):
            if _is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    made = folder.lstat()
    if not stat.S_ISDIR(made.st_mode) or made.st_uid != os.getuid():
        return False
    descriptor = os.open(folder / IN_USE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        # A server that has just begun may not have its lock yet.
        if time.time() - os.fstat(descriptor).st_mtime < NEW_FOLDER_SECONDS:
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _fill(file: Path, size: int = NEW_FILE_BYTES) -> None:
    """Allocate blocks for a file of at least this size. Raises `OSError` if the disk has no room."""
    with file.open("ab") as opened:
        opened.write(bytes(max(size - opened.tell(), 0)))
