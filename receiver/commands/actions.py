"""`hookmirror actions`: lists the recorded actions."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from receiver.codec import encode
from receiver.commands.client import TokenOption, ToOption, client_of
from receiver.commands.options import JsonFlag
from receiver.logs.escapes import visible
from receiver.logs.wording import counted
from receiver.moments import time_text
from receiver.runs.wording import argument_words

#: Arguments that the line shows as the run.
SHOWN_BESIDE = frozenset({"run"})


def actions(
    run: Annotated[int | None, typer.Option(help="Only actions of this run.")] = None,
    before: Annotated[int | None, typer.Option(help="Only actions older than this one.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="The most actions to list.")] = 50,
    to: ToOption = None,
    token: TokenOption = None,
    as_json: JsonFlag = False,
) -> None:
    """List the recorded actions of people and programs, newest first."""
    shown = client_of(to, token).ask("/api/v1/actions", {}, {"run": run, "before": before, "limit": limit})["items"]
    typer.echo(encode(shown) if as_json else "\n".join(map(_line, shown)) or "No actions are recorded yet.")


def _line(action: dict[str, Any]) -> str:
    number = [counted(action["count"], action["counts"])] if action["count"] else []
    of_run = [f"run {action['run']}"] if action["run"] else []
    concerned = ", ".join((*_arguments(action["arguments"]), *number, *of_run))
    beside = f" ({concerned})" if concerned else ""
    reason = f": {action['reason']}" if action["reason"] else ""
    when = time_text(action["at"])
    return visible(f"{when}  {action['who']} ({action['via']})  {action['what']}{beside}{reason}")


def _arguments(arguments: dict[str, Any]) -> list[str]:
    """The arguments that are one word, without those that the rest of the line shows."""
    return argument_words(
        {name: value for name, value in arguments.items() if isinstance(value, str) and name not in SHOWN_BESIDE}
    )
