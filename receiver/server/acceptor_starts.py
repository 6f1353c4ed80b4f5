"""The start of an acceptor process, and its end if it never served."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

import structlog

from receiver.errors import ConfigurationError
from receiver.ingest.channel import READ_BYTES
from receiver.ingest.frames import Unframing
from receiver.logs.safe_text import told
from receiver.metrics import sharing
from receiver.server import acceptor
from receiver.settings.environment import VITALS_VARIABLE
from receiver.settings.settings import Settings
from receiver.shadowing import path_of_packages

log = structlog.get_logger(__name__)

#: Seconds that the process may take to start, and to end.
ACCEPTOR_START_SECONDS, ACCEPTOR_STOP_SECONDS = 60.0, 5.0


class Started(NamedTuple):
    """A process, and our ends of its socket and of its lifeline."""

    process: subprocess.Popen[bytes]
    socket: socket.socket
    #: The pipe to its standard input, into which nothing is written. The process is killed once this end is closed.
    lifeline: IO[bytes]


class AcceptorStarts:
    """Starts acceptor processes, and ends those that do not serve yet with their server."""

    def __init__(self, *, beside: Callable[[], Path | None]) -> None:
        """`beside` finds the folder of the settings file, which differs once a link on its path leads elsewhere."""
        self._beside = beside
        #: The processes that were started and do not serve yet.
        self._waiting: set[Started] = set()
        self._stopping = threading.Event()

    def begin(self, settings: Settings) -> Started:
        """Start a process. Raises `ConfigurationError` if it does not get ready."""
        ours, theirs = socket.socketpair()
        listening, lifeline = _pipe()
        try:
            with theirs, listening:
                process = subprocess.Popen(  # noqa: S603 (the command is ours)
                    [sys.executable, "-P", "-m", acceptor.__name__, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    env=_environment(),
                    stdin=listening,
                    start_new_session=True,
                )
        except OSError as error:
            ours.close()
            lifeline.close()
            raise ConfigurationError(f"The acceptor process cannot be started: {told(error)}") from error
        ours.settimeout(ACCEPTOR_START_SECONDS)
        started = Started(process, ours, lifeline)
        self._waiting.add(started)
        if self._stopping.is_set():
            _hang_up(started)
        try:
            ours.sendall(acceptor.settings_sent(settings, self._beside()))
            unframing = Unframing()
            while data := ours.recv(READ_BYTES):
                if unframing.feed(data):
                    return started
        except OSError as error:
            log.error("the acceptor process does not answer", error=told(error))
        except BaseException:
            self.discard(started)
            raise
        code = self.discard(started)
        raise ConfigurationError(f"The acceptor process ended at its start with the code {code}: see the log before.")

    def serves(self, started: Started) -> None:
        """Leave this process to the caller, which sends it requests."""
        self._waiting.discard(started)

    def is_waiting(self, started: Started) -> bool:
        """Whether the process runs and does not serve yet."""
        return started in self._waiting

    def discard(self, started: Started) -> int:
        """End a process that never served; return its exit code."""
        started.socket.close()
        code = end(started, end_deadline())
        self._waiting.discard(started)
        return code

    def stop(self, starter: threading.Thread | None) -> None:
        """End the processes that do not serve yet, also one that the thread `starter` is just starting."""
        self._stopping.set()
        for each in list(self._waiting):
            _hang_up(each)
        if starter is not None:
            starter.join(2 * ACCEPTOR_STOP_SECONDS)
        for each in list(self._waiting):
            self.discard(each)


def end_deadline() -> float:
    """The time on the monotonic clock until which a process that is to end now has time."""
    return time.monotonic() + ACCEPTOR_STOP_SECONDS


def end(started: Started, deadline: float) -> int:
    """Wait for the process to end, or kill it at the deadline; return its exit code. No acked webhook is lost."""
    process = started.process
    try:
        return process.wait(max(deadline - time.monotonic(), 0.1))
    except subprocess.TimeoutExpired:
        log.error("the acceptor process did not end in time; killing it", pid=process.pid)
        process.kill()
        return process.wait()
    finally:
        started.lifeline.close()


def _environment() -> Mapping[str, str]:
    """The environment of the process, which has no metrics of its own and is not one of those that register.

    It finds every module where this process finds it, and Python's own before all others. It adds the folder of the
    settings file itself, after the imports of its program, which no file there must hide.
    """
    without = {VITALS_VARIABLE, sharing.SHARED_VARIABLE}
    kept = {name: value for name, value in os.environ.items() if name not in without}
    return kept | {"PYTHONPATH": os.pathsep.join(path_of_packages())}


def _pipe() -> tuple[IO[bytes], IO[bytes]]:
    """The two ends of a pipe."""
    reading, writing = os.pipe()
    return open(reading, "rb", buffering=0), open(writing, "wb", buffering=0)


def _hang_up(started: Started) -> None:
    """Let both ends of the socket know that nothing more comes; a thread that waits for the process goes on."""
    with suppress(OSError):
        started.socket.shutdown(socket.SHUT_RDWR)
