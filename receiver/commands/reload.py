"""`hookmirror reload`: makes running processes read their settings again."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from receiver.codec import encode
from receiver.commands.closing import closed_at_the_end
from receiver.commands.options import JsonFlag
from receiver.runs.actions import by_command
from receiver.server import reloading
from receiver.server.runtime import install


def reload(
    pid: Annotated[int | None, typer.Option(min=1, help="Only this process, such as systemd's $MAINPID.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make the processes of this machine read their settings again; they keep the old ones if the new are invalid."""
    # Invalid settings are reported here, before any process refuses them.
    runtime = closed_at_the_end(install(quiet=True))
    # Not opened, because processes beside a newer schema can be reloaded, too.
    runtime.demand_existing()
    answers, _ = reloading.reload_settings(runtime.database, by_command(), pid=pid)
    typer.echo(encode([asdict(each) for each in answers]) if as_json else "\n".join(reloading.lines(answers)))
    if any(each.taken is False for each in answers):
        raise typer.Exit(1)
