"""`hookmirror deliveries`: lists deliveries."""

from __future__ import annotations

from typing import Annotated

import typer

from receiver.commands.client import TokenOption, ToOption, client_of
from receiver.commands.filters import (
    ConflictFilter,
    DedupKeyFilter,
    EntityFilter,
    EventTypeFilter,
    OutcomeFilter,
    ReasonFilter,
    SinceFilter,
    SourceFilter,
    StateFilter,
    UntilFilter,
)
from receiver.commands.pagination import USUAL_LIMIT, CursorOption, JsonLines, LimitOption, show_list
from receiver.errors import ConfigurationError

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
    source: SourceFilter = None,
    state: StateFilter = None,
    outcome: OutcomeFilter = None,
    event_type: EventTypeFilter = None,
    entity: EntityFilter = None,
    since: SinceFilter = None,
    until: UntilFilter = None,
    reason: ReasonFilter = None,
    conflict: ConflictFilter = None,
    dedup_key: DedupKeyFilter = None,
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
