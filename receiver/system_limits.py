"""Limits of the system on this process: explains the errors of those that were reached, and demands open files early.

Python's errors say neither which limit was reached nor where it is set.
"""

from __future__ import annotations

import errno
import os
import resource

from receiver.errors import ConfigurationError

#: The fewest open files with which a process serves or works. An idle server with SQLite has 33 open, and needs some
#: more for its senders.
FEWEST_FILES = 64

#: What the interpreter says when the system gives it no further thread.
NO_THREAD = ("can't start new thread", "unable to start watchdog thread")

_MEMORY = "raise its limit (`ulimit -v`, `MemoryMax=` of its unit, `mem_limit` of its container), or free some memory"
_THREADS = (
    "raise its limits on threads (`ulimit -u`, `TasksMax=` of its unit, `pids_limit` of its container) and memory"
)
_FILES = "raise its limit (`ulimit -n`, `LimitNOFILE=` of its unit, `ulimits` of its container)"


def explain_limit(error: BaseException) -> str | None:
    """Describe the limit of the system that this error shows, and what to do; None for any other error."""
    found: BaseException | None = error
    while found is not None:
        said = _explained(found)
        if said is not None:
            return said
        found = getattr(found, "orig", None) or found.__cause__
    return None


def demand_open_files() -> None:
    """Raise `ConfigurationError` if this process may not open enough files to serve or work."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FEWEST_FILES:
        raise ConfigurationError(
            f"This process may open {hard} files at once, and needs at least {FEWEST_FILES}: {_FILES}."
        )
    _raise_to(FEWEST_FILES)


def has_few_files() -> bool:
    """Whether this process may open so few files that a file may not have been opened for that reason."""
    return 0 <= resource.getrlimit(resource.RLIMIT_NOFILE)[0] < FEWEST_FILES


def explain_few_files() -> str:
    """Say that this process may open few files, and what to do."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return f"This process may open {soft} files at once: {_FILES}."


def _explained(error: BaseException) -> str | None:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EMFILE:
        return explain_few_files()
    if number == errno.ENFILE:
        return "The system has too many open files: end other programs, or raise `fs.file-max` with sysctl."
    if isinstance(error, MemoryError) or number == errno.ENOMEM:
        return f"There is no memory left for this process: {_MEMORY}."
    if isinstance(error, RuntimeError) and str(error) in NO_THREAD:
        return f"The system gives this process no further thread: {_THREADS}."
    if isinstance(error, FileNotFoundError) and error.filename is None and not _has_folder():
        return "The folder in which this command was started no longer exists: change to another one."
    return None


def _has_folder() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _raise_to(files: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
