"""`hookmirror actions`: lists who did what."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from receiver.codec import encode
from receiver.commands.client import TokenOption, ToOption, client_of
from receiver.commands.options import JsonFlag
from receiver.logs.escapes import visible


def actions(
    run: Annotated[int | None, typer.Option(help="Only actions of this run.")] = None,
    before: Annotated[int | None, typer.Option(help="Only actions older than this one.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
    to: ToOption = None,
    token: TokenOption = None,
    as_json: JsonFlag = False,
) -> None:
    """List who did what, newest first."""
    shown = client_of(to, token).ask("/api/v1/actions", {}, {"run": run, "before": before, "limit": limit})["items"]
    typer.echo(encode(shown) if as_json else "\n".join(map(_line, shown)) or "No actions are recorded yet.")


def _line(action: dict[str, Any]) -> str:
    of_run = f", run {action['run']}" if action["run"] else ""
    reason = f": {action['reason']}" if action["reason"] else ""
    concerned = f" ({action['count']} deliveries{of_run})" if action["count"] != 1 else of_run
    when = f"{datetime.fromisoformat(action['at']):%Y-%m-%d %H:%M:%S}Z"
    return visible(f"{when}  {action['who']} ({action['via']})  {action['what']}{concerned}{reason}")
