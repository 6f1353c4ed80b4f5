"""`hookmirror sessions`: lists the sessions of the console, and ends them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from receiver.api.sessions import SessionList, show_session
from receiver.codec import encode
from receiver.commands.closing import closed_at_the_end
from receiver.commands.options import JsonFlag
from receiver.commands.tables import print_table
from receiver.errors import ConfigurationError
from receiver.runs.actions import Asked, by_command
from receiver.server.runtime import install
from receiver.sessions import sessions as kept

SESSION_COLUMNS = ("id", "name", "role", "created_at", "seen_at", "ends_at")


def sessions(
    end: Annotated[str | None, typer.Option(metavar="ID", help="End this session at once.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List who is signed in to the console, the newest session first."""
    runtime, now = closed_at_the_end(install(quiet=True)), datetime.now(UTC)
    runtime.open()
    database = runtime.database
    if end is not None:
        asked = Asked(by=by_command(), what="end session", arguments={"session": end})
        if kept.end(database, asked, end, now=now) is None:
            raise ConfigurationError(
                f"There is no session {end[:64]!r}, or it has ended: `hookmirror sessions` lists the open ones."
            )
    listed = kept.listed(now=datetime.now(UTC), idle=timedelta(minutes=runtime.settings.console_idle_minutes))
    with database.read() as connection:
        found = [show_session(row) for row in connection.execute(listed).mappings()]
    if as_json:
        typer.echo(encode(SessionList(found)))
    else:
        print_table(SESSION_COLUMNS, [[getattr(each, column) for column in SESSION_COLUMNS] for each in found])
