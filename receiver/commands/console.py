"""`hookmirror console`: serves the console in a separate process."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from receiver.ingest.connections import allow_open_files
from receiver.server import server
from receiver.server.console_app import ConsoleApp
from receiver.server.renewal import Requests
from receiver.server.runtime import install

#: How far the process steps back when others on the machine want the processor: the endpoint and the worker come first.
NICENESS = 10


def console(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8001,
    root_path: Annotated[str, typer.Option(help="The path prefix behind a proxy, such as /pim.")] = "",
) -> None:
    """Serve the console in a separate process, so that reading pages takes no time from the acks."""
    os.nice(NICENESS)
    requests = Requests()
    # Before the settings are read, so that a signal about a later change of them is not lost.
    requests.listen()
    runtime = install()
    listening = server.listen(host, port)
    runtime.open()
    allow_open_files(runtime.settings.max_connections)
    server.run(ConsoleApp(runtime, requests=requests), listening, root_path=root_path.rstrip("/"))
