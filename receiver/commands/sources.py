"""`hookmirror sources`: shows the health of the sources."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from receiver.codec import encode
from receiver.commands.client import TokenOption, ToOption, client_of
from receiver.commands.options import JsonFlag
from receiver.commands.tables import print_table
from receiver.logs.escapes import visible
from receiver.logs.wording import named_secret
from receiver.moments import time_text

SOURCES_PATH = "/api/v1/sources"

STANDING_COLUMNS = (
    *("source", "dialect", "health", "last_delivery_at", "came", "refused", "failed", "pending", "dead"),
    "freshness_seconds",
)


def sources(
    source: Annotated[str | None, typer.Argument(help="Only this source, with its settings; by default, all.")] = None,
    to: ToOption = None,
    token: TokenOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the health of the sources; for one source also its settings without secrets, and its event types."""
    asked = client_of(to, token)
    if source is None:
        found = asked.ask(SOURCES_PATH, {}, {})
        if as_json:
            typer.echo(encode(found))
            return
        print_table(STANDING_COLUMNS, [[each[name] for name in STANDING_COLUMNS] for each in found["items"]])
        return
    found = asked.ask(f"{SOURCES_PATH}/{{source}}", {"source": source}, {})
    typer.echo(encode(found) if as_json else "\n".join(map(visible, _lines(found))))


def _lines(found: dict[str, Any]) -> list[str]:
    """Format one source as lines of text."""
    settings = [f"{name} = {encode(value).decode()}" for name, value in found["settings"].items()]
    secrets = [
        f"{named_secret(each['position'])}: {each['verified']} verified, last {_time_or_never(each['last_at'])}"
        for each in found["secrets"]
    ]
    handled = [f"{each['event_type']}: {each['handler']}" for each in found["handlers"]]
    ignored = [
        f"{each['event_type']}: {each['number']} ignored, handler now: {each['handler'] or 'none'}"
        for each in found["ignored"]
    ]
    since = time_text(found["counted_from"])
    head = [
        f"{found['source']}, {found['dialect'] or 'in no settings'}: {found['health']}. {found['says']}",
        f"Since {since}: {found['came']} came, {found['refused']} refused, {found['failed']} failed.",
        f"Pending {found['pending']}, dead {found['dead']}; last delivery {_time_or_never(found['last_delivery_at'])}.",
        f"Address for the sender: {found['address']}",
    ]
    return [*head, *settings, *secrets, *handled, *ignored]


def _time_or_never(time: str | None) -> str:
    return time_text(time) if time else "never"
