"""`hookmirror deliveries`: lists deliveries."""

from __future__ import annotations

from typing import Annotated

import typer

from receiver.commands.client import TokenOption, ToOption, client_of
from receiver.commands.options import time_option
from receiver.commands.pagination import USUAL_LIMIT, CursorOption, JsonLines, LimitOption, show_list
from receiver.errors import ConfigurationError
from receiver.inbox.tables import State
from receiver.mirror.versions import Outcome

DELIVERIES_PATH = "/api/v1/deliveries"

DELIVERY_COLUMNS = (
    "id",
    "received_at",
    "source",
    "event_type",
    "entity",
    "state",
    "outcome",
    "attempts_made",
    "reason",
)


def deliveries(
    source: Annotated[str | None, typer.Option(help="Of this source.")] = None,
    state: Annotated[State | None, typer.Option(help="In this state.")] = None,
    outcome: Annotated[Outcome | None, typer.Option(help="With this outcome.")] = None,
    event_type: Annotated[str | None, typer.Option(help="Of this event type.")] = None,
    entity: Annotated[str | None, typer.Option(help="About this entity, as kind:id or id.")] = None,
    since: Annotated[str | None, time_option("Arrived then or later.")] = None,
    until: Annotated[str | None, time_option("Arrived before.")] = None,
    reason: Annotated[str | None, typer.Option(help="With this text in the reason.")] = None,
    conflict: Annotated[bool | None, typer.Option("--conflict/--no-conflict", help="With a used dedup key.")] = None,
    dedup_key: Annotated[str | None, typer.Option(help="With this dedup key.")] = None,
    sku: Annotated[str | None, typer.Option(hidden=True)] = None,
    count: Annotated[bool, typer.Option("--count", help="Also count the matches.")] = False,
    limit: LimitOption = USUAL_LIMIT,
    cursor: CursorOption = None,
    to: ToOption = None,
    token: TokenOption = None,
    as_json: JsonLines = False,
) -> None:
    """List deliveries, newest first."""
    if sku is not None:
        raise ConfigurationError(
            "Only rows have a SKU: `hookmirror search SKU` finds the rows, and `hookmirror deliveries --entity ID` "
            "lists the deliveries about one of them."
        )
    query = {
        "source": source,
        "state": state,
        "outcome": outcome,
        "event_type": event_type,
        "entity": entity,
        "from": since,
        "to": until,
        "reason": reason,
        "conflict": conflict,
        "dedup_key": dedup_key,
        "count": True if count else None,
        "cursor": cursor,
    }
    show_list(client_of(to, token), DELIVERIES_PATH, query, limit=limit, as_json=as_json, columns=DELIVERY_COLUMNS)
