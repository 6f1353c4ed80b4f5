"""Runs the application in a server: opens the socket, serves in one process or several, and stops."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

import structlog
import uvicorn

from receiver.console.page import CONSOLE_PATH
from receiver.errors import ConfigurationError
from receiver.ingest.bounded import BoundedProtocol
from receiver.ingest.fast_path import FastPathProtocol
from receiver.ingest.paths import HOOKS_PATH
from receiver.metrics import metrics
from receiver.metrics.sharing import SHARED_VARIABLE
from receiver.server.app import App
from receiver.server.console_app import ConsoleApp
from receiver.server.renewal import stop_listening
from receiver.server.supervisor import Supervisor
from receiver.settings.environment import VITALS_VARIABLE

#: Connections that may wait until a process takes them.
QUEUED_CONNECTIONS = 2_048

#: Seconds that requests in progress may take when the server stops.
REQUEST_GRACE = 15

#: Seconds after which a process that was asked to end is killed: enough for its requests and the worker's delivery.
STOP_TIMEOUT = 40.0


def listen(host: str, port: int, *, option: str = "--port") -> socket.socket:
    """Open a socket on this address. Raises `ConfigurationError` with the reason if that fails.

    `option` is the option for another port; the one for the host has a similar name.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, UnicodeError) as error:
        listening.close()
        reason = error.strerror if isinstance(error, OSError) else "not the name of a machine"
        raise ConfigurationError(
            f"Nothing can listen on {host} port {port} ({reason}): {_mend(error, option)}."
        ) from None
    return listening


def _mend(error: Exception, option: str) -> str:
    """Advise what to do about an address on which the server cannot listen."""
    if isinstance(error, PermissionError):
        return f"choose another {option}, from 1024 on, or let systemd open the socket, as docs/deployment.md says"
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return f"stop the program that listens there, or choose another {option}"
    return f"{option.replace('port', 'host')} takes an address of this machine, or 0.0.0.0 for all its addresses"


def inherit(number: int) -> socket.socket:
    """The socket that this process inherited from its parent. Raises `ConfigurationError` if it is not a socket."""
    try:
        return socket.socket(fileno=number)
    except OSError as error:
        raise ConfigurationError(
            f"File descriptor {number} is not a socket of this process ({error.strerror}): --fd takes the number of "
            "one that its starter left open, such as 3 for a socket of systemd."
        ) from None


class _Server(uvicorn.Server):
    """Ends the streams of the console at the first signal, so that they do not delay the end."""

    def __init__(self, config: uvicorn.Config, application: App | ConsoleApp) -> None:
        super().__init__(config)
        self._application = application

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._application.end_streams()
        super().handle_exit(sig, frame)


def run(application: App | ConsoleApp, listening: socket.socket, *, root_path: str = "") -> None:
    """Serve in this process until a signal ends it; requests in progress are answered first.

    `root_path` is the path below which a proxy serves the application.
    """
    config = uvicorn.Config(
        application,
        http=FastPathProtocol if isinstance(application, App) else BoundedProtocol,
        # Without web sockets: a refused request for one could prevent a graceful stop.
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        lifespan="on",
        root_path=root_path,
        timeout_graceful_shutdown=REQUEST_GRACE,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn stops gracefully and then raises the signal again, but a requested end is not a failure.
        signal.signal(number, lambda *_: sys.exit(0))
    _say_where(listening, f"{HOOKS_PATH}<source>" if isinstance(application, App) else f"{CONSOLE_PATH}/")
    try:
        _Server(config, application).run(sockets=[listening])
    finally:
        stop_listening()


def run_processes(listening: socket.socket, *, processes: int, worker: bool, root_path: str = "") -> None:
    """Serve in several processes that share the socket, and run a worker in one more, until a signal to end.

    A connection waits in the socket's one queue until any process takes it, so the end of a process loses none.
    """
    hookmirror = [sys.executable, "-P", "-m", "receiver"]
    serve = [*hookmirror, "serve", "--fd", str(listening.fileno()), "--no-worker", "--root-path", root_path]
    commands = [serve] * processes
    if worker:
        commands.append([*hookmirror, "worker"])
    # After this call, a connection waits for the first ready process instead of being refused.
    listening.listen(QUEUED_CONNECTIONS)
    _say_where(listening, f"{HOOKS_PATH}<source>")
    with _shared_folder() as shared:
        environment = {name: value for name, value in os.environ.items() if name != VITALS_VARIABLE}
        supervisor = Supervisor(
            commands,
            environment=environment if shared is None else {**environment, SHARED_VARIABLE: str(shared)},
            file_descriptors=[listening.fileno()],
            ended=lambda pid: None if shared is None else metrics.forget(pid, shared),
            stop_timeout=STOP_TIMEOUT,
        )
        supervisor.run()


@contextmanager
def _shared_folder() -> Iterator[Path | None]:
    """Make the folder in which the processes share their metrics; None if there is no room for temporary files."""
    with ExitStack() as stack:
        try:
            made = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="hookmirror-metrics-", ignore_cleanup_errors=True)
            )
        except OSError as error:
            reason = f"no folder for temporary files can be made ({error.strerror})"
            structlog.get_logger(__name__).warning("processes do not share their metrics", reason=reason)
            yield None
        else:
            yield Path(made)


def _say_where(listening: socket.socket, path: str) -> None:
    address, *rest = listening.getsockname()
    where = f"{address}:{rest[0]}" if rest else address
    structlog.get_logger(__name__).info("listening", url=f"http://{where}{path}")
