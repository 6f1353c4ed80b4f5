"""Keeps processes running: replaces each process that ends, and ends all of them together.

SIGHUP is passed on to all of them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType

import structlog

from receiver.logs.safe_text import told

log = structlog.get_logger(__name__)

#: Seconds between two polls of the processes.
PROCESS_POLL = 0.1

#: Seconds before an ended process is replaced: the first pause, which doubles up to the longest; and the running time
#: after which the pause is the first one again.
FIRST_RESTART_PAUSE, LONGEST_RESTART_PAUSE, A_WHILE = 0.1, 15.0, 10.0

#: Linux: sets the signal that a process gets when its parent vanishes.
PR_SET_PDEATHSIG = 1


class RestartPauses:
    """The seconds before each restart of a process that keeps ending."""

    def __init__(self, longest: float) -> None:
        self._longest, self._pause = longest, FIRST_RESTART_PAUSE

    def after(self, ran: float) -> float:
        """The pause before the next start; the process, or the attempt to start it, began `ran` seconds ago."""
        self._pause = FIRST_RESTART_PAUSE if ran > A_WHILE else min(2 * self._pause, self._longest)
        return self._pause


class Supervisor:
    """Runs a process for every command until SIGTERM or SIGINT. To be run by the main thread, as the only one."""

    def __init__(
        self,
        commands: Sequence[Sequence[str]],
        *,
        environment: Mapping[str, str],
        file_descriptors: Sequence[int],
        ended: Callable[[int], bool],
        stop_timeout: float,
    ) -> None:
        """The processes inherit `file_descriptors`, and have `stop_timeout` seconds to end after a request to stop.

        `ended` gets the process id of each process that ended without such a request. While it returns False, it gets
        it again at each poll, except while another process here has that id. It must not wait.
        """
        self._left_by: set[int] = set()
        self._ended = ended
        self._posts = [_Post(command, environment, file_descriptors, self._left_by.add) for command in commands]
        self._stop_timeout = stop_timeout
        self._stopping = False
        self._hung_up = False

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._hang_up)
        try:
            while not self._stopping:
                for post in self._posts:
                    post.fill()
                self._tell_of_ended()
                self._pass_on()
                time.sleep(PROCESS_POLL)
        finally:
            self._end()
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _tell_of_ended(self) -> None:
        for pid in self._left_by - {post.pid for post in self._posts}:
            if self._ended(pid):
                self._left_by.remove(pid)

    def _hang_up(self, _number: int, _frame: FrameType | None) -> None:
        self._hung_up = True

    def _pass_on(self) -> None:
        if self._hung_up:
            self._hung_up = False
            for post in self._posts:
                post.send(signal.SIGHUP)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _end(self) -> None:
        for post in self._posts:
            post.ask_to_end()
        deadline = time.monotonic() + self._stop_timeout
        for post in self._posts:
            post.wait(deadline)


class _Post:
    """The place of one process, which is filled again whenever it is empty."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        descriptors: Sequence[int],
        ended: Callable[[int], None],
    ) -> None:
        self._command = command
        self._environment = environment
        self._descriptors = descriptors
        self._ended = ended
        self._process: subprocess.Popen[bytes] | None = None
        self._began = self._due = time.monotonic()
        self._pauses = RestartPauses(LONGEST_RESTART_PAUSE)
        self._pause = 0.0

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def fill(self) -> None:
        """Start a process here if none is running, after a pause if processes keep ending."""
        if self._process is not None and self._process.poll() is not None:
            self._plan_another(self._process)
            self._ended(self._process.pid)
            self._process = None
        if self._process is None and time.monotonic() >= self._due:
            self._began = time.monotonic()
            self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes] | None:
        """Start the process; None if the system or this process lacks resources at present."""
        try:
            return subprocess.Popen(  # noqa: S603 (the commands are ours)
                self._command,
                env=self._environment,
                pass_fds=self._descriptors,
                preexec_fn=prepared_under(os.getpid()),
            )
        except (OSError, MemoryError, subprocess.SubprocessError) as error:
            # The other processes go on, and this one is tried again.
            self._pause_before_the_next()
            log.error("cannot start a process; trying again", error=told(error), seconds=self._pause)
            return None

    def _plan_another(self, ended: subprocess.Popen[bytes]) -> None:
        self._pause_before_the_next()
        log.error("a process ended; starting another", pid=ended.pid, code=ended.returncode, seconds=self._pause)

    def _pause_before_the_next(self) -> None:
        now = time.monotonic()
        self._pause = self._pauses.after(now - self._began)
        self._due = now + self._pause

    def ask_to_end(self) -> None:
        self.send(signal.SIGTERM)

    def send(self, number: signal.Signals) -> None:
        """Send the signal to the process, if it is running."""
        if self._process is not None:
            self._process.send_signal(number)

    def wait(self, deadline: float) -> None:
        """Wait until the process has ended, and kill it at the deadline, which loses no acked webhook."""
        if self._process is None:
            return
        try:
            self._process.wait(max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            log.error("a process did not end in time; killing it", pid=self._process.pid)
            self._process.kill()
            self._process.wait()


def prepared_under(parent: int) -> Callable[[], None]:
    """Return the function that prepares a new process of this parent before its program begins.

    The system asks it to end when its parent vanishes, so that no process stays behind on the port. SIGHUP does not end
    it before the program handles that signal. Neither does Ctrl-C, which reaches it, too: the supervisor ends it.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def prepare() -> None:
        for number in (signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        if libc is None:
            return
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return prepare
