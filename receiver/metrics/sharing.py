"""Allocates the files of metrics that several processes share.

Each process maps files of its own into its memory. If a file has no allocated blocks and the disk is full, the first
count ends the process (SIGBUS). So the blocks are allocated first, and without room a process counts for itself.
"""

from __future__ import annotations

import os
from pathlib import Path

#: The variable with the folder in which several processes share their metrics. It must be set before they start. Each
#: count then goes to a mapped file instead of a number, which takes longer.
SHARED_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

#: The kinds of metrics, with the modes of ours, after which prometheus_client names its files.
KINDS = ("counter", "histogram", "gauge_mostrecent", "gauge_livesum")

#: Bytes of a new file, as prometheus_client makes it; it uses an existing file as it is.
NEW_FILE_BYTES = 1 << 20

_refusals: list[str] = []


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
    except OSError as error:
        for file in (*files, *news.values()):
            file.unlink(missing_ok=True)
        del os.environ[SHARED_VARIABLE]
        _refusals.append(f"there is no room for shared metrics in {folder} ({error.strerror})")


def unshared() -> str | None:
    """The reason for which this process cannot share its metrics; None if it shares them, or need not."""
    return _refusals[0] if _refusals else None


def forget(pid: int, folder: Path) -> None:
    """Remove the gauges of an ended process that shared this folder; its counters stay."""
    # Imported here, because the supervisor counts nothing, and needs this only when a process has ended.
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]


def _fill(file: Path) -> None:
    """Allocate blocks for the whole file. Raises `OSError` if the disk has no room."""
    with file.open("ab") as opened:
        opened.write(bytes(max(NEW_FILE_BYTES - opened.tell(), 0)))
