"""The command `hookmirror`. An error of ours is one line on standard error and exit code 1."""

from __future__ import annotations

import os
import signal
import socket
import sys
from datetime import UTC, datetime, timedelta
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer
import uvicorn

from receiver import logs
from receiver.app import App, Installation
from receiver.errors import ConfigurationError, HookmirrorError
from receiver.settings import CONFIG_VARIABLE, load
from receiver.tokens import Scope, Tokens

#: Where packages add commands of their own.
ENTRY_POINTS = "hookmirror.commands"

#: Seconds that requests under way get when the server stops.
GRACE = 15

app = typer.Typer(
    name="hookmirror",
    help="The receiving end for product-catalog webhooks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    for point in entry_points(group=ENTRY_POINTS):
        app.command(name=point.name)(point.load())
    try:
        app()
    except HookmirrorError as error:
        sys.stderr.write(f"hookmirror: {error}\n")
        sys.exit(1)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8000,
    worker: Annotated[bool, typer.Option(help="Also run a worker in this process.")] = True,
) -> None:
    """Run the endpoint and the API, and a worker beside them."""
    installation = _installation()
    listening = _listen(host, port)
    installation.prepare()
    application = App(installation, with_worker=worker)
    config = uvicorn.Config(
        application,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=GRACE,
    )
    uvicorn.Server(config).run(sockets=[listening])


@app.command()
def worker() -> None:
    """Run a worker alone: it drains the inbox of the same database into the mirror."""
    installation = _installation()
    installation.prepare()
    running = installation.worker()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: running.stop())
    running.run()


@app.command()
def token(
    scope: Annotated[Scope, typer.Option(help="What the token allows; operate includes read.")] = Scope.READ,
    days: Annotated[float, typer.Option(min=0.001, max=3650, help="How long it is valid.")] = 30,
) -> None:
    """Print a token for the API, and nothing else."""
    keys = load().secret_keys
    typer.echo(Tokens(keys).issue(scope, now=datetime.now(UTC), lifetime=timedelta(days=days)))


def _installation() -> Installation:
    settings = load()
    logs.configure(settings.log_level, settings.log_format)
    if not settings.sources:
        raise ConfigurationError(
            f"No source is set, so there is nothing to listen to: name a TOML file in {CONFIG_VARIABLE} with a table "
            "[sources.<name>] for each account. docs/operations.md has an example."
        )
    return Installation(settings, beside=_settings_folder())


def _settings_folder() -> Path:
    named = os.environ.get(CONFIG_VARIABLE)
    return Path(named).resolve().parent if named else Path.cwd()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        raise ConfigurationError(
            f"Nothing can listen on {host} port {port} ({error.strerror}): stop what does, or choose another --port."
        ) from None
    return listening
