"""`hookmirror actions`: lists who did what."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from receiver.codec import encode
from receiver.commands.options import JsonFlag
from receiver.logs.escapes import visible
from receiver.runs import actions as record
from receiver.server.runtime import install


def actions(
    run: Annotated[int | None, typer.Option(help="Those of this run.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """List who did what, newest first."""
    runtime = install()
    runtime.open()
    with runtime.database.read() as connection:
        rows = connection.execute(record.recent(run=run).limit(limit)).mappings().all()
    shown = [record.show(row) for row in rows]
    typer.echo(encode(shown) if as_json else "\n".join(map(_line, shown)) or "Nobody has done anything yet.")


def _line(action: dict[str, Any]) -> str:
    of_run = f", run {action['run']}" if action["run"] else ""
    reason = f": {action['reason']}" if action["reason"] else ""
    concerned = f" ({action['count']} deliveries{of_run})" if action["count"] != 1 else of_run
    when = f"{action['at']:%Y-%m-%d %H:%M:%S}Z"
    return visible(f"{when}  {action['who']} ({action['via']})  {action['what']}{concerned}{reason}")
