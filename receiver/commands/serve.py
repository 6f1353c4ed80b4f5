"""`hookmirror serve`: runs the endpoint and the API, with a worker beside them."""

from __future__ import annotations

import os
from functools import partial
from typing import Annotated

import typer

from receiver.commands.closing import closed_at_the_end
from receiver.errors import ConfigurationError
from receiver.interrupts import EndingAtOnce, end_at_sigterm
from receiver.logs import logs
from receiver.server import sockets
from receiver.server.signals import Requests
from receiver.server.supervised import check_apart, run_processes
from receiver.settings.environment import VARIABLE_PREFIX
from receiver.settings.settings import load


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8000,
    fd: Annotated[int | None, typer.Option(min=0, help="Instead of both: an inherited listening socket.")] = None,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Processes that share the socket.")] = 1,
    worker: Annotated[bool, typer.Option(help="Also run one worker; with several processes, in another one.")] = True,
    worker_process: Annotated[
        bool, typer.Option("--worker-process", help="Run the worker in a process of its own, beside one endpoint, too.")
    ] = False,
    console: Annotated[
        bool | None, typer.Option("--console/--no-console", help="Also serve the console; by default, as set.")
    ] = None,
    root_path: Annotated[str, typer.Option(help="The path prefix behind a proxy, such as /pim.")] = "",
) -> None:
    """Run the endpoint and the API, and a worker beside them."""
    if worker_process and not worker:
        raise ConfigurationError("--worker-process asks for a worker, and --no-worker for none: leave one of them out.")
    requests = Requests()
    # Handled before the settings are read, so that a signal about a later change of them is not lost.
    requests.listen()
    end_at_sigterm()
    if console is not None:
        # Set in the environment, so that further processes and reloaded settings have it, too.
        os.environ[f"{VARIABLE_PREFIX}CONSOLE"] = str(console).lower()
    open_socket = partial(sockets.listen, host, port) if fd is None else partial(sockets.inherit, fd)
    if processes == 1 and not worker_process:
        # Imported here, because the supervisor of several processes does without the application.
        with EndingAtOnce():
            from receiver.server.serving import serve_here

        serve_here(open_socket, worker=worker, requests=requests, root_path=root_path.rstrip("/"))
        return
    settings = load()
    logs.configure(settings.log_level, settings.log_format)
    listening = closed_at_the_end(open_socket())
    # Checked once, because each process would otherwise fail at the same mistake again and again.
    check_apart(_check)
    run_processes(listening, processes=processes, worker=worker, root_path=root_path)


def _check() -> None:
    from receiver.server.serving import check_start

    check_start()
