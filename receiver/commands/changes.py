"""`hookmirror changes`: lists the change feed."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from receiver.codec import encode
from receiver.commands.client import TokenOption, ToOption, client_of
from receiver.commands.options import time_option
from receiver.commands.pagination import USUAL_LIMIT, CursorOption, JsonLines, LimitOption, show_list
from receiver.errors import ConfigurationError
from receiver.logs.escapes import visible

CHANGES_PATH = "/api/v1/changes"

#: The most changes shown with a row or a delivery.
SHOWN_CHANGES = 20

CHANGE_COLUMNS = (
    *("seq", "recorded_at", "table", "source", "external_id", "operation", "before", "after"),
    *("changed_at", "delivery_id", "run"),
)


def changes(
    seq: Annotated[int | None, typer.Argument(min=1, help="Only the change with this number.")] = None,
    table: Annotated[str | None, typer.Option(help="Of this table.")] = None,
    source: Annotated[str | None, typer.Option(help="Of this source.")] = None,
    since: Annotated[str | None, time_option("Recorded since.")] = None,
    delivery: Annotated[str | None, typer.Option(metavar="ID", help="Caused by this delivery.")] = None,
    after: Annotated[int | None, typer.Option(min=0, help="Oldest first, after this number.")] = None,
    limit: LimitOption = USUAL_LIMIT,
    cursor: CursorOption = None,
    to: ToOption = None,
    token: TokenOption = None,
    as_json: JsonLines = False,
) -> None:
    """List changes of the mirror, newest first; with --after, oldest first; or show the one with this number."""
    query = {"table": table, "source": source, "since": since, "delivery": delivery, "cursor": cursor}
    order = {"newest": True} if after is None else {"after": after}
    asked = client_of(to, token)
    if seq is not None:
        if any(value is not None for value in (*query.values(), after)):
            raise ConfigurationError("A number names one change: leave the filters out, or the number.")
        show_one(asked.ask(f"{CHANGES_PATH}/{{seq}}", {"seq": str(seq)}, {}), as_json=as_json)
        return
    show_list(asked, CHANGES_PATH, {**query, **order}, limit=limit, as_json=as_json, columns=CHANGE_COLUMNS)


def show_one(change: dict[str, Any], *, as_json: bool) -> None:
    """Print one change, a line for each column that changed."""
    if as_json:
        typer.echo(encode(change))
        return
    row = f"{change['table']}/{change['source']}/{change['external_id']}"
    cause = f"delivery {change['delivery_id']}" if change["delivery_id"] else f"run {change['run'] or 'unknown'}"
    lines = [f"{change['seq']} {change['recorded_at']} {change['operation']} {row} by {cause}"]
    for name in dict.fromkeys((*change["after"], *change["before"])):
        before, after = (encode(change[side].get(name)).decode() for side in ("before", "after"))
        lines.append(f"{name}: {before} → {after}")
    typer.echo("\n".join(map(visible, lines)))
