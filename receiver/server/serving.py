"""Serves in this process, or checks that it could."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import closing

from sqlalchemy.exc import SQLAlchemyError

from receiver.database.errors import explain_by_settings
from receiver.errors import ConfigurationError
from receiver.ingest.connections import allow_open_files
from receiver.server import server
from receiver.server.app import App
from receiver.server.interpreter import tune_interpreter
from receiver.server.runtime import install
from receiver.server.signals import Requests


def serve_here(open_socket: Callable[[], socket.socket], *, worker: bool, requests: Requests, root_path: str) -> None:
    """Serve in this process until a signal ends it. Raises `ConfigurationError` if it cannot start."""
    with closing(install()) as runtime, closing(open_socket()) as listening:
        runtime.prepare()
        allow_open_files(runtime.settings.max_connections)
        application = App(runtime, with_worker=worker, requests=requests)
        tune_interpreter()
        server.run(application, listening, root_path=root_path)


def check_start() -> None:
    """Do what every process does at its start, except serve. Raises `ConfigurationError` if that fails."""
    try:
        with closing(install()) as runtime:
            runtime.prepare()
            App(runtime, with_worker=False, requests=Requests())
    except SQLAlchemyError as error:
        raise ConfigurationError(explain_by_settings(error)) from error
