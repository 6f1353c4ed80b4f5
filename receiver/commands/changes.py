"""`hookmirror changes`: lists the change feed."""

from __future__ import annotations

from typing import Annotated

import typer

from receiver.commands.client import TokenOption, ToOption, client_of
from receiver.commands.options import time_option
from receiver.commands.pagination import USUAL_LIMIT, CursorOption, JsonLines, LimitOption, show_list

CHANGES_PATH = "/api/v1/changes"

#: The most changes shown with a row or a delivery.
SHOWN_CHANGES = 20

CHANGE_COLUMNS = (
    *("seq", "recorded_at", "table", "source", "external_id", "operation", "before", "after"),
    *("changed_at", "delivery_id", "run"),
)


def changes(
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
    """List changes of the mirror, newest first; with --after, oldest first."""
    query = {"table": table, "source": source, "since": since, "delivery": delivery, "cursor": cursor}
    order = {"newest": True} if after is None else {"after": after}
    asked = client_of(to, token)
    show_list(asked, CHANGES_PATH, {**query, **order}, limit=limit, as_json=as_json, columns=CHANGE_COLUMNS)
