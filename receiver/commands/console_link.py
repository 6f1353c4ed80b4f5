"""`hookmirror console-link`: prints an address that signs one person in to the console, once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlencode

import typer

from receiver.console.page import CONSOLE_PATH
from receiver.console.sign_in import LINK
from receiver.runs.actions import by_command
from receiver.sessions.links import Links
from receiver.sessions.roles import Role
from receiver.settings.settings import Settings, load


def console_link(
    role: Annotated[Role, typer.Option(help="What the person may do: a viewer changes nothing.")] = Role.VIEWER,
    name: Annotated[
        str, typer.Option(help="The person's name for the record of actions; by default, this user's.")
    ] = "",
    url: Annotated[str | None, typer.Option(help="The console's address; `console_url` by default.")] = None,
) -> None:
    """Print an address that signs one person in to the console. It is valid once, and for ten minutes."""
    settings = load()
    typer.echo(link_to(settings, name or by_command().who, role, url=url))


def link_to(settings: Settings, name: str, role: Role, *, url: str | None = None) -> str:
    """Make the address. Raises `ConfigurationError` for an invalid name."""
    secret = Links(settings.secret_keys).issue(name, role, now=datetime.now(UTC))
    where = (url or settings.console_url).rstrip("/")
    return f"{where}{CONSOLE_PATH}/sign-in?{urlencode({LINK: secret})}"
