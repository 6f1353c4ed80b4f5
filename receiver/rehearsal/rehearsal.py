"""Rehearses code over kept deliveries: copies them, runs each side in a separate process, and compares the results.

The real database is only read, and by this process alone.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import msgspec
from msgspec.structs import replace

from receiver import codec
from receiver.database.database import Database
from receiver.errors import HookmirrorError, WiringError
from receiver.logs.escapes import visible
from receiver.rehearsal.differences import Differences, compare_sides, not_reached
from receiver.rehearsal.kept import copy_kept
from receiver.rehearsal.outcomes import Job, RehearsedSide
from receiver.rehearsal.recorded import compare_with_record
from receiver.rehearsal.scratch import JOB, RESULT, SCRATCH

codec.describe_shape(RehearsedSide)

#: The most deliveries of a rehearsal, and the time limit of one side in seconds.
MOST_REHEARSED, MOST_SIDE_SECONDS = 100_000, 600.0

#: Seconds for a side to write its result after its time limit, and the most restarts of a crashed side.
SIDE_GRACE, MOST_RESTARTS = 60.0, 6

#: Seconds that the code may take for one delivery without a sign of life.
REHEARSAL_HANG_SECONDS = 5.0

#: Characters kept of a process's last output.
LAST_WORDS = 1_000

#: The bytes of output that hold the last words in the longest encoding, and the most that one read takes.
LAST_OUTPUT, OUTPUT_AT_ONCE = 4 * LAST_WORDS, 1 << 20

#: The most seconds between two looks at whether a process has ended.
LOOK_AT_PROCESS = 0.5


class NothingKept(HookmirrorError):
    """Raised when no kept delivery is left to rehearse with."""


def rehearse(
    database: Database,
    source: str,
    *,
    last: int,
    reference: str | None = None,
    hydrate: bool = False,
    seconds: float = MOST_SIDE_SECONDS,
) -> Differences:
    """Compare the code named by `reference` with the code in the settings, over the last deliveries.

    Without a reference, compare the code in the settings with the mirror and the inbox. Raises `WiringError` for code
    that cannot be used, and `NothingKept`.
    """
    with TemporaryDirectory(prefix="hookmirror-rehearsal-") as folder:
        kept = Path(folder) / "kept.db"
        deliveries = copy_kept(database, source, last, kept)
        if not deliveries:
            raise NothingKept(
                f"No delivery of {source} that has ended still has its body, so there is nothing to rehearse with: "
                f"`hookmirror send {source} EVENT_TYPE` sends one, and a worker ends it."
            )
        job = Job(source, str(kept), reference, hydrate, seconds, REHEARSAL_HANG_SECONDS)
        new = _run_side(Path(folder) / "new", job)
        if reference is None:
            return compare_with_record(database, source, deliveries, new)
        unreached = not_reached(new)
        old = _run_side(Path(folder) / "old", replace(job, reference=None, without=sorted(unreached)))
        if missed := not_reached(old):
            # Rows for which only one side had the time are no difference of the code.
            unreached |= missed
            new = _run_side(Path(folder) / "again", replace(job, without=sorted(unreached)))
    return compare_sides(source, old, new, unreached)


def _run_side(folder: Path, job: Job) -> RehearsedSide:
    """Run one side, restarting it after crashes. Raises `WiringError` if it cannot be run."""
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
    """Run the process of a side, and return its last output."""
    # Started in another folder, because a file in the working directory might shadow a module.
    command = [sys.executable, "-P", "-m", "receiver.rehearsal.scratch", str(folder)]
    with subprocess.Popen(  # noqa: S603 (our own module)
        command, bufsize=0, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            said = read_last_output(process, job.seconds + SIDE_GRACE)
        except subprocess.TimeoutExpired:
            raise WiringError(
                f"{job.reference or 'The code in force'} did not finish within {job.seconds:g} seconds and a "
                "minute: rehearse with fewer deliveries."
            ) from None
        finally:
            process.kill()
    words = said.decode(errors="replace").strip()[-LAST_WORDS:]
    return visible(words.rpartition("\n")[2]) or f"exit code {process.returncode}"


def read_last_output(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    """Read what the process prints until it ends, and return the end of it. Raises `TimeoutExpired`.

    The end of the process is asked for, because processes that it started may keep its output open.
    """
    assert process.stdout is not None
    until, said = monotonic() + seconds, b""
    with selectors.DefaultSelector() as selector:
        output = selector.register(process.stdout, selectors.EVENT_READ)
        while process.poll() is None:
            if monotonic() >= until:
                raise subprocess.TimeoutExpired(process.args, seconds)
            if selector.select(LOOK_AT_PROCESS):
                more = os.read(output.fd, OUTPUT_AT_ONCE)
                said = (said + more)[-LAST_OUTPUT:]
                if not more:
                    process.wait(until - monotonic())
        # One read takes all that the ended process has left in the pipe.
        return (said + os.read(output.fd, OUTPUT_AT_ONCE))[-LAST_OUTPUT:] if selector.select(0) else said
