"""The client of a command: one reads the database in the settings, the other asks the API of a receiver.

Both use the same operations, so a command has the same output either way.
"""

from __future__ import annotations

from typing import Annotated

import typer

from receiver.commands.client_protocol import Client
from receiver.commands.closing import closed_at_the_end
from receiver.commands.remote_client import RemoteClient
from receiver.errors import ConfigurationError
from receiver.interrupts import EndingAtOnce
from receiver.settings.environment import TOKEN_VARIABLE

ToOption = Annotated[
    str | None, typer.Option("--to", metavar="URL", help="Ask the receiver at this address, not the local database.")
]
TokenOption = Annotated[
    str | None, typer.Option("--token", envvar=TOKEN_VARIABLE, show_default=False, help="The token for `--to`.")
]


def client_of(to: str | None, token: str | None) -> Client:
    """Make a client of the receiver at `to`, or without it of the database. Raises `ConfigurationError`."""
    if to is None:
        # Imported here, because a question to another receiver needs nothing of the application.
        with EndingAtOnce():
            from receiver.commands.local_client import LocalClient
            from receiver.server.runtime import install

        return LocalClient(closed_at_the_end(install(quiet=True)))
    if not token:
        raise ConfigurationError(
            f"--to needs a token: put the line that `hookmirror token` prints there into {TOKEN_VARIABLE}, or give "
            "--token."
        )
    return RemoteClient(to, token)
