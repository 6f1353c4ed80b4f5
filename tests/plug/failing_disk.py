"""A disk that fails on request, and its contents after a power cut; the library is `failing_disk.c`.

The library counts the syncs of the log (`-wal`) and of the data (`.db`) over all processes that load it.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import random
import shutil
import struct
import subprocess
from enum import IntEnum
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("failing_disk.c")

#: Indexes of the shared words, each a signed integer of 8 bytes. The first four have a word for each kind of file. The
#: tenth counts the commits that are written and not flushed, the last one the reads that are still to fail.
SYNCS, FAIL_FROM, FAIL_UNTIL, FAILED, POWER_CUT, FAIL_COVERING, FAIL_READS, WORDS = 0, 2, 4, 6, 8, 10, 11, 12

#: Bytes that the disk writes as one unit.
SECTOR = 4_096


class Kind(IntEnum):
    LOG = 0
    DATA = 1


class FailingDisk:
    """The disk under the SQLite file of one folder and its log."""

    #: Source of the library that is preloaded.
    source = SOURCE

    def __init__(self, root: Path, shadow: Path) -> None:
        """Compile the library. Without a compiler the test is skipped; with CI=true it fails."""
        shadow.mkdir()
        self._root, self._shadow = root, shadow
        self._library = shadow / "failing_disk.so"
        compile_library(self.source, self._library)
        descriptor = os.open(shadow / "state", os.O_RDWR | os.O_CREAT)
        os.ftruncate(descriptor, WORDS * 8)
        self._words = mmap.mmap(descriptor, WORDS * 8)
        self._descriptor = descriptor

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which a process writes to this disk."""
        return {
            "LD_PRELOAD": str(self._library),
            "FAILING_DISK_ROOT": f"{self._root}/",
            "FAILING_DISK_SHADOW": str(self._shadow),
        }

    def syncs(self, kind: Kind) -> int:
        return self._get(SYNCS + kind)

    def failed(self) -> int:
        """Count the syncs that have failed on request."""
        return self._get(FAILED + Kind.LOG) + self._get(FAILED + Kind.DATA)

    def fail(self, kind: Kind, *, after: int = 0, times: int = 1) -> None:
        """Let the next `after` syncs succeed and the `times` syncs after them fail."""
        first = self.syncs(kind) + after + 1
        self._set(FAIL_UNTIL + kind, first + times)
        self._set(FAIL_FROM + kind, first)

    def fail_what_covers_several_commits(self) -> None:
        """Fail the next sync of the log that more than one commit depends on."""
        self._set(FAIL_COVERING, 1)

    def cut_power(self) -> None:
        """Cut the power: from then on no write reaches the disk, and every sync fails."""
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX)
        self._set(POWER_CUT, 1)
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN)

    def power_is_cut(self) -> bool:
        return self._get(POWER_CUT) != 0

    def image(self, folder: Path, jitter: random.Random) -> Path:
        """Write the contents of the disk after the cut: everything confirmed, and each other sector with even odds.

        Returns the path of the database. End every process first.
        """
        folder.mkdir()
        for kind, pattern in (Kind.DATA, "*.db"), (Kind.LOG, "*.db-wal"):
            for confirmed in self._shadow.glob(pattern):
                copy = folder / confirmed.name
                shutil.copy(confirmed, copy)
                self._write_some(kind, self._root / confirmed.name, copy, jitter)
        (found,) = folder.glob("*.db")
        return found

    def _write_some(self, kind: Kind, written: Path, copy: Path, jitter: random.Random) -> None:
        records = (self._shadow / ("dirty-log" if kind is Kind.LOG else "dirty-data")).read_bytes()
        if not written.exists():
            return
        with written.open("rb") as source, copy.open("r+b") as target:
            for offset, length in struct.iter_unpack("qq", records):
                for place in range(offset, offset + length, SECTOR):
                    if jitter.random() < 0.5:
                        source.seek(place)
                        target.seek(place)
                        target.write(source.read(min(SECTOR, offset + length - place)))

    def _get(self, word: int) -> int:
        return int(struct.unpack_from("q", self._words, word * 8)[0])

    def _set(self, word: int, value: int) -> None:
        struct.pack_into("q", self._words, word * 8, value)

    def close(self) -> None:
        self._words.close()
        os.close(self._descriptor)


def compile_library(source: Path, path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        if os.environ.get("CI"):
            pytest.fail("the failing disk needs a C compiler: install cc")
        pytest.skip("there is no C compiler (cc) for the failing disk")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", path, source, "-ldl", "-lpthread"], check=True)
