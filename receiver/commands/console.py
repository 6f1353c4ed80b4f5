"""`hookmirror console`: serves the console in a separate process."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from receiver.commands.closing import closed_at_the_end
from receiver.ingest.connections import allow_open_files
from receiver.interrupts import end_at_sigterm
from receiver.server import server, sockets
from receiver.server.console_app import ConsoleApp
from receiver.server.runtime import install
from receiver.server.signals import Requests

#: The niceness of the process, so that the endpoint and the worker get the processor first.
NICENESS = 10


def console(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8001,
    root_path: Annotated[str, typer.Option(help="The path prefix behind a proxy, such as /pim.")] = "",
) -> None:
    """Serve the console in a separate process, so that reading pages takes hardly any time from the acks."""
    requests = Requests()
    # Before the settings are read, so that a signal about a later change of them is not lost.
    requests.listen()
    end_at_sigterm()
    runtime = closed_at_the_end(install())
    listening = closed_at_the_end(sockets.listen(host, port))
    runtime.open_to_serve()
    allow_open_files(runtime.settings.max_connections)
    # Set only now, so that threads started earlier keep their priority. The one that copies SQLite's log may hold the
    # writer's lock, and acks would wait for it while other processes use the processor.
    os.nice(NICENESS)
    server.run(ConsoleApp(runtime, requests=requests), listening, root_path=root_path.rstrip("/"))
