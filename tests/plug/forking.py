"""Starts `hookmirror` commands quickly: an interpreter that has done its imports forks each of them.

The program, arguments and environment are those of a normal start. Only the second for the imports is saved, so that
hundreds of processes can be killed and started again within minutes.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

#: Seconds for a process to end after it is asked to.
TIMEOUT = 60.0

#: Seconds for the forking interpreter to end, after its children have ended.
STOP = 5.0

#: From <linux/prctl.h>: the signal that a process is sent when its parent ends.
PR_SET_PDEATHSIG = 1

#: Forks a child for every line that it reads, and reports that the child began and how it ended.
FORKING = """
import ctypes, faulthandler, gc, json, os, resource, select, signal, sys, traceback
import receiver.cli, receiver.api.routes, receiver.worker.worker, receiver.server.serving
import handlers.sigma, handlers.indexed, handlers.iimmpact, handlers.sticky
import psycopg, sqlalchemy.dialects.postgresql.psycopg, sqlalchemy.dialects.sqlite.pysqlite, uvicorn.loops.auto
import uvicorn.protocols.http.auto, uvicorn.lifespan.on
for command in ("serve", "worker", "migrate"):
    receiver.cli.own_command(command)
# Otherwise each process would collect garbage in all of these modules.
gc.freeze()

PR_SET_PDEATHSIG = 1

def tell(*words):
    os.write(1, (json.dumps(words) + chr(10)).encode())

def reap():
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        tell("ended", pid, os.waitstatus_to_exitcode(status))

def command(job):
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.close(woken)
    os.close(wake)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"])
    sys.path[:0] = [job["folder"]]
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    # Tells in the log where each thread stands.
    faulthandler.register(signal.SIGUSR2)
    for name, limit in job["limits"].items():
        resource.setrlimit(getattr(resource, name), (limit, limit))
    exec(job["sabotage"], {})
    sys.argv = ["hookmirror", *job["arguments"]]
    receiver.cli.main()

def lines():
    # Between two lines, the ends of children are reported.
    begun = b""
    while True:
        readable, _, _ = select.select([0, woken], [], [])
        if woken in readable:
            os.read(woken, 4096)
            reap()
        if 0 in readable:
            data = os.read(0, 65536)
            if not data:
                return
            *whole, begun = (begun + data).split(b"\\n")
            yield from whole

# A signal that comes just before a read would not interrupt it. A byte in a pipe is there when the wait begins.
woken, wake = os.pipe()
os.set_blocking(wake, False)
signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
signal.signal(signal.SIGCHLD, lambda *_: None)
tell("ready")
for line in lines():
    job = json.loads(line)
    child = os.fork()
    if child:
        tell("began", job["number"], child)
        continue
    code = 1
    try:
        command(job)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
"""


@dataclass
class Process:
    """A running command."""

    pid: int
    _ended: threading.Event = field(default_factory=threading.Event)
    #: The exit code; the negative number of the signal if one killed it.
    code: int | None = None

    @property
    def alive(self) -> bool:
        return not self._ended.is_set()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless the process has ended."""
        if self.alive:
            # The process may have ended without a report so far.
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self, seconds: float = TIMEOUT) -> int:
        """Wait for the end, and return the exit code. Raises `TimeoutError`."""
        if not self._ended.wait(seconds):
            raise TimeoutError(f"process {self.pid} did not end within {seconds:.0f} s")
        assert self.code is not None
        return self.code

    def kill(self) -> None:
        """Send `SIGKILL`, and wait until the process has ended."""
        self.send(signal.SIGKILL)
        self.wait()

    def end(self, code: int) -> None:
        self.code = code
        self._ended.set()

    def catches(self, number: signal.Signals) -> bool:
        """Whether the process handles this signal by code of its own."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return False
        (caught,) = re.findall(r"^SigCgt:\s+(\w+)$", status, re.MULTILINE)
        return bool(int(caught, 16) >> (number - 1) & 1)

    def file_descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def memory(self) -> int:
        """Return the resident memory in bytes."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


class Forking:
    """The interpreter that forks. It can be used from several threads; `close` kills everything that it has started."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", FORKING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=plain()
        )
        self._lock = threading.Lock()
        self._number = 0
        self._living: dict[int, Process] = {}
        #: Exit codes of children whose end was reported before their beginning.
        self._early: dict[int, int] = {}
        self._began: dict[int, queue.SimpleQueue[Process]] = {}
        ready = threading.Event()
        self._listener = threading.Thread(target=self._listen, args=(ready,), name="forking", daemon=True)
        self._listener.start()
        if not ready.wait(TIMEOUT) or self._process.poll() is not None:
            self.close()
            raise RuntimeError("the interpreter that forks could not do its imports; its error is above")

    def start(
        self,
        *arguments: str,
        folder: Path,
        log: Path,
        environment: Mapping[str, str],
        limits: Mapping[str, int] | None = None,
        sabotage: str = "",
    ) -> Process:
        """Run `hookmirror` with these arguments in that folder. `limits` are named as in the module `resource`.

        `sabotage` is Python code that runs in the process before the command, for example to break a promise on
        purpose.
        """
        job: dict[str, Any] = {"folder": str(folder), "log": str(log), "arguments": arguments}
        job |= {"environment": {**plain(), **environment}, "limits": dict(limits or {}), "sabotage": sabotage}
        with self._lock:
            self._number += 1
            number = self._number
            began = self._began[number] = queue.SimpleQueue()
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(job | {"number": number}) + "\n")
            self._process.stdin.flush()
        return began.get(timeout=TIMEOUT)

    def close(self) -> None:
        for process in list(self._living.values()):
            process.kill()
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join(TIMEOUT)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _listen(self, ready: threading.Event) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            match json.loads(line):
                case ["ready"]:
                    ready.set()
                case ["began", number, pid]:
                    process = self._living[pid] = Process(pid)
                    if pid in self._early:
                        self._end(pid, self._early.pop(pid))
                    self._began.pop(number).put(process)
                case ["ended", pid, code] if pid in self._living:
                    self._end(pid, code)
                case ["ended", pid, code]:
                    self._early[pid] = code
        ready.set()

    def _end(self, pid: int, code: int) -> None:
        self._living.pop(pid).end(code)


@cache
def shared_forking() -> Forking:
    """Return the interpreter that all runs of this process share."""
    made = Forking()
    atexit.register(made.close)
    return made


def end_with_parent() -> None:
    """End the new process with its parent (a `preexec_fn`), so that killed tests leave no process behind.

    Linux only.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def plain() -> dict[str, str]:
    """Return the environment without Hookmirror's settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HOOKMIRROR_")}


def wait_until(condition: Any, what: str, seconds: float = TIMEOUT) -> Any:
    """Wait until the condition returns a true value, and return it. Raises `TimeoutError`."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.01)
    return found
