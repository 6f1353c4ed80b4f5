"""Commands in processes of their own, without the second that their imports would take.

For all tests of a process, one interpreter does the imports. It forks each command, which then runs with its own
arguments, folder, environment and pipes. A second interpreter forks `python …`. It imports less, so that a user's
script runs without the dialects and tables that it does not import itself.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from io import StringIO
from pathlib import Path
from typing import IO

#: Most bytes of a job.
LARGEST = 1 << 20

#: Imports of the interpreter that forks `hookmirror`.
COMMAND_IMPORTS = """
import receiver.cli, simulator.commands, handlers.sigma, handlers.indexed, handlers.iimmpact, handlers.sticky
import receiver.api.routes, receiver.worker.worker, receiver.server.serving, receiver.copying.copying
import receiver.commands.local_client
import alembic.command, psycopg, sqlalchemy.dialects.postgresql.psycopg, sqlalchemy.dialects.sqlite.pysqlite
import uvicorn.loops.auto, uvicorn.protocols.http.auto, uvicorn.lifespan.on
import encodings.idna, encodings.utf_8_sig, httpcore, rich._emoji_codes, typer._adapters, typer._click.decorators
import alembic.migration, receiver.database.migrations.v0001_first_release, handlers.migrations.v0001_first_release
import uvicorn.loops.uvloop
import receiver.loading, receiver.worker.source_texts
for command in receiver.cli.COMMANDS:
    receiver.cli.own_command(command)
# What each command finds out about installed packages and our dialects, and keeps in caches.
receiver.loading.entry_points("hookmirror.dialects")
for dialect in (handlers.sigma.sigma, handlers.indexed.indexed, handlers.iimmpact.iimmpact, handlers.sticky.sticky):
    list(receiver.worker.source_texts.source_texts(dialect.functions))
import sys
sys.path.insert(0, {support!r})
from certificates import share_certificates
del sys.path[0]
share_certificates()
"""

#: Imports of the interpreter that forks `python …`. Scripts declare their own dialects and mirror tables.
PYTHON_IMPORTS = """
import receiver.cli, receiver.testing, simulator.testing, pytest, _hypothesis_pytestplugin, anyio.pytest_plugin
import alembic.migration, alembic.operations, alembic.script, sqlalchemy.dialects.sqlite.pysqlite
import receiver.server.runtime
"""

#: The number under which a process finds the file descriptor that it inherits.
INHERITED = 3

#: Takes jobs from the socket that it inherits as file descriptor 3. Each job has a pipe for the output, one for the
#: errors, and one for news: the process id and, at the end, the exit code. The process inherits a further file
#: descriptor if there is one. The loop waits for jobs and for ends alike.
FORKING = """
import ctypes, gc, json, os, resource, runpy, select, signal, socket, sys, traceback
gc.disable()
{imports}
gc.freeze()
gc.enable()

def end_with_parent():
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)

def command(job, output, errors, *inherited):
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"])
    last = max(output, errors, *inherited) + 8
    given = (os.open(os.devnull, os.O_RDONLY), output, errors, *inherited)
    for number, fd in enumerate(given):
        os.dup2(fd, number)
    os.closerange(len(given), last)
    if job["open_files"]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (job["open_files"], job["open_files"]))
    exec(job["before"], {})
    if job["python"]:
        python(job["arguments"])
    else:
        sys.argv = ["hookmirror", *job["arguments"]]
        receiver.cli.main()

def python(arguments):
    sys.path[0] = os.getcwd()
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")

def run(job, *fds):
    code = 0
    try:
        command(job, *fds)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                code = code or 1
        os._exit(code)

jobs = socket.socket(fileno=3)
news = {}
woken, waking = os.pipe()
os.set_blocking(waking, False)
signal.set_wakeup_fd(waking)
signal.signal(signal.SIGCHLD, lambda *_: None)

def begin(job, output, errors, telling, *inherited):
    child = os.fork()
    if not child:
        end_with_parent()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        jobs.close()
        for fd in (woken, waking, telling, *news.values()):
            os.close(fd)
        run(json.loads(job), output, errors, *inherited)
    news[child] = telling
    tell(child, child)
    for fd in (output, errors, *inherited):
        os.close(fd)

def tell(child, number):
    try:
        os.write(news[child], b"%d\\n" % number)
    except OSError:
        pass

def end():
    os.read(woken, 4096)
    while news:
        child, status = os.waitpid(-1, os.WNOHANG)
        if not child:
            break
        tell(child, os.waitstatus_to_exitcode(status))
        os.close(news.pop(child))

while True:
    ready, _, _ = select.select([jobs, woken], [], [])
    if woken in ready:
        end()
    if jobs in ready:
        job, fds, _, _ = socket.recv_fds(jobs, 1 << 20, 4)
        if not job:
            break
        begin(job, *fds)
"""


class Forked:
    """A running command, with the part of the interface of `subprocess.Popen` that tests use."""

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        *,
        python: bool = False,
        log: Path | None = None,
        one_pipe: bool = False,
        inherited: int | None = None,
        open_files: int | None = None,
        before: str = "",
    ) -> None:
        """Start `hookmirror` with these arguments, or `python`, which takes a script or `-m` and a module.

        With `log`, output and errors are appended to that file instead of being written into pipes. With `one_pipe`,
        the errors are written into the pipe of the output. The process finds the file descriptor `inherited` under
        the number `INHERITED`. `open_files` limits the number of its open files. `before` is Python code that the new
        process runs first.
        """
        self.args = arguments
        self.returncode: int | None = None
        self.stdout, output = _pipe() if log is None else _end_of(log)
        if one_pipe:
            self.stderr, errors = StringIO(), os.dup(output)
        else:
            self.stderr, errors = _pipe() if log is None else _end_of(log)
        news, telling = os.pipe()
        job = {
            "arguments": arguments,
            "folder": str(folder),
            "environment": dict(environment),
            "python": python,
            "open_files": open_files,
            "before": before,
        }
        more = [] if inherited is None else [os.dup(inherited)]
        _start(_forking(PYTHON_IMPORTS if python else COMMAND_IMPORTS), job, output, errors, telling, *more)
        self._news = os.fdopen(news)
        self.pid = int(self._news.readline())
        self._ended = threading.Event()
        self._waiting = threading.Thread(target=self._wait, name=f"end of {self.pid}", daemon=True)
        self._waiting.start()

    def _wait(self) -> None:
        with self._news:
            # If the interpreter that forks was killed too, there is no news.
            self.returncode = int(self._news.readline() or -signal.SIGKILL)
        self._ended.set()

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired(list(self.args), timeout or 0.0)
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end, and return the rest of the output and of the errors."""
        said = ["", ""]

        def read(number: int, stream: IO[str]) -> None:
            # A thread of the test may have read and closed the stream.
            with suppress(ValueError):
                said[number] = stream.read()

        readers = [
            threading.Thread(target=read, args=each, daemon=True) for each in enumerate((self.stdout, self.stderr))
        ]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join(timeout)
        self._close()
        return said[0], said[1]

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()
        self._close()

    def _close(self) -> None:
        self._waiting.join()
        for stream in (self.stdout, self.stderr):
            stream.close()


def _pipe() -> tuple[IO[str], int]:
    reading, writing = os.pipe()
    return os.fdopen(reading), writing


def _end_of(log: Path) -> tuple[IO[str], int]:
    """Return an empty stream, and a file descriptor that appends to the file."""
    return StringIO(), os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


_one_at_a_time = threading.Lock()


def _start(forking: socket.socket, job: Mapping[str, object], *fds: int) -> None:
    content = json.dumps(job).encode()
    assert len(content) < LARGEST
    with _one_at_a_time:
        socket.send_fds(forking, [content], list(fds))
    for fd in fds:
        os.close(fd)


@cache
def _forking(imports: str) -> socket.socket:
    """Return the socket that takes jobs.

    The interpreter ends when the socket is closed, at the latest with this process.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST)
    with theirs:
        number = theirs.fileno()
        imports = imports.replace("{support!r}", repr(str(Path(__file__).parent)))
        start = f"import os; os.dup2({number}, 3, inheritable=False)\n{FORKING.replace('{imports}', imports)}"
        process = subprocess.Popen([sys.executable, "-c", start], stdin=subprocess.DEVNULL, pass_fds=[number])

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours
