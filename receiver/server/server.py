"""Runs the application in a server of this process, until it is asked to stop."""

from __future__ import annotations

import signal
import socket
import sys
from types import FrameType

import uvicorn

from receiver.console.page import CONSOLE_PATH
from receiver.ingest.bounded import BoundedProtocol
from receiver.ingest.fast_path import FastPathProtocol
from receiver.ingest.paths import HOOKS_PATH
from receiver.server.app import App
from receiver.server.console_app import ConsoleApp
from receiver.server.lifespan import EXIT_CANNOT_START
from receiver.server.signals import stop_listening
from receiver.server.sockets import say_where, url_here

#: Seconds that requests in progress may take when the server stops.
REQUEST_GRACE = 15


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
    url = url_here(listening)
    if url is not None:
        application.note_url(url, root_path)
    say_where(listening, f"{HOOKS_PATH}<source>" if isinstance(application, App) else f"{CONSOLE_PATH}/")
    server = _Server(config, application)
    try:
        server.run(sockets=[listening])
    finally:
        stop_listening()
    if server.lifespan.should_exit and not server.started:
        # The log says why.
        sys.exit(EXIT_CANNOT_START)
