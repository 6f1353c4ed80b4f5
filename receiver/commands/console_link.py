"""`hookmirror console-link`: prints an address that signs one person in to the console, once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlencode

import typer

from receiver.commands.addresses import recorded_here
from receiver.console.page import CONSOLE_PATH
from receiver.console.sign_in import LINK
from receiver.runs.actions import by_command
from receiver.sessions.links import Links
from receiver.sessions.roles import Role
from receiver.settings.settings import Settings, load
from receiver.worker.processes import console_here

#: The note if the printed link leads to the default address.
NO_CONSOLE = (
    "No console of this database runs on this machine: start `hookmirror serve --console` or `hookmirror console`, or "
    "name the address of one elsewhere with --url or `console_url`."
)


def console_link(
    role: Annotated[Role, typer.Option(help="The person's role; a viewer can change nothing.")] = Role.VIEWER,
    name: Annotated[
        str, typer.Option(help="The person's name for the record of actions; by default, this user's.")
    ] = "",
    url: Annotated[
        str | None,
        typer.Option(help="The console's address; by default `console_url`, or that of a console on this machine."),
    ] = None,
) -> None:
    """Print an address that signs one person in to the console. It is valid once, and for ten minutes."""
    settings = load()
    address = url or _running(settings)
    typer.echo(link_to(settings, name or by_command().who, role, url=address))
    if address is None and "console_url" not in settings.model_fields_set:
        typer.echo(NO_CONSOLE, err=True)


def _running(settings: Settings) -> str | None:
    """The address of a console that runs on this machine, unless the settings name one."""
    if "console_url" in settings.model_fields_set:
        return None
    return recorded_here(settings, console_here)


def link_to(settings: Settings, name: str, role: Role, *, url: str | None = None) -> str:
    """Make the address. Raises `ConfigurationError` for an invalid name."""
    secret = Links(settings.secret_keys).issue(name, role, now=datetime.now(UTC))
    where = (url or settings.console_url).rstrip("/")
    return f"{where}{CONSOLE_PATH}/sign-in?{urlencode({LINK: secret})}"
