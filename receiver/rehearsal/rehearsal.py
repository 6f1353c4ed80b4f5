"""Rehearses code over kept deliveries: copies them, runs each side in a process of its own, compares.

The real database is only read, and by this process alone.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from msgspec.structs import replace

from receiver import codec
from receiver.database.database import Database
from receiver.errors import HookmirrorError, WiringError
from receiver.logs.escapes import visible
from receiver.rehearsal.differences import Differences, compare_sides
from receiver.rehearsal.kept import copy_kept
from receiver.rehearsal.outcomes import Job, RehearsedSide
from receiver.rehearsal.recorded import compare_with_record
from receiver.rehearsal.scratch import JOB, RESULT, SCRATCH

#: Deliveries that are rehearsed at most, and seconds that one side may take.
MOST_REHEARSED, MOST_SIDE_SECONDS = 100_000, 600.0

#: Seconds that a side gets to put its result together once its time is over, and times that it is begun again.
SIDE_GRACE, MOST_RESTARTS = 60.0, 6

#: Seconds that the code may take for one delivery without a sign of life.
REHEARSAL_HANG_SECONDS = 5.0

#: Characters of what a process said last.
LAST_WORDS = 1_000


class NothingKept(HookmirrorError):
    """There is no delivery to rehearse with."""


def rehearse(
    database: Database,
    source: str,
    *,
    last: int,
    reference: str | None = None,
    hydrate: bool = False,
    seconds: float = MOST_SIDE_SECONDS,
) -> Differences:
    """What the code named by `reference` makes of the last deliveries that the code of the settings does not.

    Without a reference, what the code of the settings makes that is not what the mirror and the inbox hold. Raises
    `WiringError` for code that cannot be used, and `NothingKept`.
    """
    with TemporaryDirectory(prefix="hookmirror-rehearsal-") as folder:
        kept = Path(folder) / "kept.db"
        deliveries = copy_kept(database, source, last, kept)
        if not deliveries:
            raise NothingKept(
                f"No delivery of {source} that has ended still has its body, so there is nothing to rehearse with."
            )
        job = Job(source, str(kept), reference, hydrate, seconds, REHEARSAL_HANG_SECONDS)
        new = _run_side(Path(folder) / "new", job)
        if reference is None:
            return compare_with_record(database, source, deliveries, new)
        old = _run_side(Path(folder) / "old", replace(job, reference=None))
    return compare_sides(source, old, new)


def _run_side(folder: Path, job: Job) -> RehearsedSide:
    """Run one side to its end, however often its code ends the process. Raises `WiringError` if it cannot be run."""
    folder.mkdir()
    for restarts in range(MOST_RESTARTS):
        job.restarts = restarts
        (folder / JOB).write_bytes(codec.encode(job))
        words = _run_process(folder, job)
        if (folder / RESULT).exists():
            result = msgspec.convert(codec.decode((folder / RESULT).read_bytes()), RehearsedSide)
            if result.refused is not None:
                raise WiringError(result.refused)
            return result
        if not (folder / SCRATCH).exists():
            raise WiringError(f"{job.reference or 'The code in force'} ended the process as it was loaded: {words}")
    raise WiringError(f"{job.reference or 'The code in force'} ended {MOST_RESTARTS} processes: {words}")


def _run_process(folder: Path, job: Job) -> str:
    """Run the process of a side; returns what it said last."""
    # Not from the working directory, where any file may stand in the place of a module.
    command = [sys.executable, "-P", "-m", "receiver.rehearsal.scratch", str(folder)]
    with (folder / "said").open("w+b") as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)  # noqa: S603 (our own module)
        try:
            process.wait(job.seconds + SIDE_GRACE)
        except subprocess.TimeoutExpired:
            raise WiringError(
                f"{job.reference or 'The code in force'} did not come to its end within {job.seconds:g} seconds and a "
                "minute: rehearse with fewer deliveries."
            ) from None
        finally:
            process.kill()
            process.wait()
        said.seek(0)
        words = said.read().decode(errors="replace").strip()[-LAST_WORDS:]
    return visible(words.rpartition("\n")[2]) or f"exit code {process.returncode}"
