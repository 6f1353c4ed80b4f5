"""A disk that fails when a test says so, and what it holds after a power cut; `failing_disk.c` does the work.

The library counts the syncs of the log (`-wal`) and of the data (`.db`), over all processes that it was loaded into.
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

#: Places of the words that the library shares, each a signed integer of 8 bytes. The first four have one for each kind;
#: the tenth counts the commits that are written and not flushed, and the last the reads that are still to fail.
SYNCS, FAIL_FROM, FAIL_UNTIL, FAILED, POWER_CUT, FAIL_COVERING, FAIL_READS, WORDS = 0, 2, 4, 6, 8, 10, 11, 12

#: Bytes that reach a disk together.
SECTOR = 4_096


class Kind(IntEnum):
    LOG = 0
    DATA = 1


class FailingDisk:
    """The disk below the SQLite file of one folder, and its log."""

    #: What is preloaded.
    source = SOURCE

    def __init__(self, root: Path, shadow: Path) -> None:
        """Skips the test where there is no compiler, but for CI, where it must not go unnoticed."""
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
        """What a process needs in its environment to write to this disk."""
        return {
            "LD_PRELOAD": str(self._library),
            "FAILING_DISK_ROOT": f"{self._root}/",
            "FAILING_DISK_SHADOW": str(self._shadow),
        }

    def syncs(self, kind: Kind) -> int:
        return self._get(SYNCS + kind)

    def failed(self) -> int:
        """How many syncs have failed on request."""
        return self._get(FAILED + Kind.LOG) + self._get(FAILED + Kind.DATA)

    def fail(self, kind: Kind, *, after: int = 0, times: int = 1) -> None:
        """Let so many syncs succeed from now on, and the next ones fail."""
        first = self.syncs(kind) + after + 1
        self._set(FAIL_UNTIL + kind, first + times)
        self._set(FAIL_FROM + kind, first)

    def fail_what_covers_several_commits(self) -> None:
        """Fail the next sync of the log that more than one commit depends on."""
        self._set(FAIL_COVERING, 1)

    def cut_power(self) -> None:
        """From now on nothing reaches the disk, and every sync fails."""
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX)
        self._set(POWER_CUT, 1)
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN)

    def power_is_cut(self) -> bool:
        return self._get(POWER_CUT) != 0

    def image(self, folder: Path, jitter: random.Random) -> Path:
        """What the disk holds after the cut: all that was confirmed, and of the rest each sector or not, by luck.

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
