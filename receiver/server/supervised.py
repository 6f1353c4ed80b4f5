"""Several processes of one server: checks that they can start, and runs them under a supervisor.

The supervisor's process imports little, because it works for no request and lives as long as the others.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

import structlog

from receiver.errors import ConfigurationError, HookmirrorError
from receiver.metrics import sharing
from receiver.server.sockets import say_where
from receiver.server.supervisor import Supervisor, prepared_under
from receiver.settings.environment import VITALS_VARIABLE
from receiver.verify.request import HOOKS_PATH

#: Connections that may wait until a process takes them.
QUEUED_CONNECTIONS = 2_048

#: Seconds after which a process that was asked to end is killed: enough for its requests and the worker's delivery.
STOP_TIMEOUT = 40.0


def check_apart(check: Callable[[], None]) -> None:
    """Run the check in a process of its own, so that this one need not import what only the check needs.

    Raises `ConfigurationError` with the message of the error that the check raises. To be called before any thread is
    started.
    """
    reading, writing = os.pipe()
    prepare = prepared_under(os.getpid())
    child = os.fork()
    if child == 0:
        os.close(reading)
        prepare()
        _run_and_end(check, writing)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8", errors="surrogatepass") as told:
        message = told.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if message:
        raise ConfigurationError(message)
    if code:
        raise ConfigurationError(f"The check before the start ended with the code {code}: see the log before.")


def _run_and_end(check: Callable[[], None], writing: int) -> NoReturn:
    """Run the check, write the message of its error, and end the process without what its parent has to finish."""
    code = 1
    # The check counts nothing for others.
    os.environ.pop(sharing.SHARED_VARIABLE, None)
    try:
        check()
        code = 0
    except HookmirrorError as error:
        with os.fdopen(writing, "w", encoding="utf-8", errors="surrogatepass") as told:
            told.write(str(error))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def run_processes(listening: socket.socket, *, processes: int, worker: bool, root_path: str = "") -> None:
    """Serve in several processes that share the socket, and run a worker in one more, until a signal to end.

    A connection waits in the socket's one queue until any process takes it, so the end of a process loses none.
    """
    hookmirror = [sys.executable, "-P", "-m", "receiver"]
    serve = [*hookmirror, "serve", "--fd", str(listening.fileno()), "--no-worker", "--root-path", root_path]
    commands = [serve] * processes
    if worker:
        commands.append([*hookmirror, "worker"])
    for number in (signal.SIGTERM, signal.SIGINT):
        # Until the supervisor handles them: a requested end is not a failure, and removes the shared folder.
        signal.signal(number, lambda *_: sys.exit(0))
    # After this call, a connection waits for the first ready process instead of being refused.
    listening.listen(QUEUED_CONNECTIONS)
    say_where(listening, f"{HOOKS_PATH}<source>")
    with _shared_folder() as shared:
        environment = {name: value for name, value in os.environ.items() if name != VITALS_VARIABLE}
        supervisor = Supervisor(
            commands,
            environment=environment if shared is None else {**environment, sharing.SHARED_VARIABLE: str(shared)},
            file_descriptors=[listening.fileno()],
            ended=lambda pid: shared is None or sharing.forget(pid, shared),
            stop_timeout=STOP_TIMEOUT,
        )
        supervisor.run()


@contextmanager
def _shared_folder() -> Iterator[Path | None]:
    """Make the folder in which the processes share their metrics; None if there is no room for temporary files."""
    with ExitStack() as stack:
        try:
            sharing.remove_abandoned(Path(tempfile.gettempdir()))
            made = stack.enter_context(
                tempfile.TemporaryDirectory(prefix=sharing.FOLDER_PREFIX, ignore_cleanup_errors=True)
            )
            sharing.hold(Path(made))
        except OSError as error:
            reason = f"no folder for temporary files can be made ({error.strerror})"
            structlog.get_logger(__name__).warning("processes do not share their metrics", reason=reason)
            yield None
        else:
            yield Path(made)
