"""Filters of deliveries: the options of every command that chooses deliveries, checked as the API checks its own."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from receiver.api.plans import PLAN_FILTERS
from receiver.commands.options import time_option
from receiver.inbox.tables import State
from receiver.mirror.versions import Outcome
from receiver.search.filters import DeliveryFilter

SourceFilter = Annotated[str | None, typer.Option("--source", help="Deliveries of this source.")]
StateFilter = Annotated[State | None, typer.Option("--state", help="Deliveries in this state.")]
OutcomeFilter = Annotated[Outcome | None, typer.Option("--outcome", help="Deliveries with this outcome.")]
EventTypeFilter = Annotated[str | None, typer.Option("--event-type", help="Deliveries of this event type.")]
EntityFilter = Annotated[str | None, typer.Option("--entity", help="Deliveries about this entity, as kind:id or id.")]
SinceFilter = Annotated[str | None, time_option("Arrived then or later.")]
UntilFilter = Annotated[str | None, time_option("Arrived before.")]
#: For the list, which takes no reason of an action.
ReasonFilter = Annotated[str | None, typer.Option("--reason", help="Deliveries with this text in the reason.")]
ReasonHasFilter = Annotated[str | None, typer.Option("--reason-has", help="Deliveries with this text in the reason.")]
ConflictFilter = Annotated[
    bool | None, typer.Option("--conflict/--no-conflict", help="Deliveries with a used dedup key, or without.")
]
DedupKeyFilter = Annotated[str | None, typer.Option("--dedup-key", help="Deliveries with this dedup key.")]


def parse_filter(**given: Any) -> DeliveryFilter:
    """Make the filter of a plan from options named as its fields. Raises `BadRequest` as the API does."""
    parsed = {
        name: PLAN_FILTERS[name].read(value) if isinstance(value, str) else value
        for name, value in given.items()
        if value is not None
    }
    return DeliveryFilter(**parsed)


def plan_query(wanted: DeliveryFilter) -> dict[str, Any]:
    """The parameters of the API that plan a replay with this filter; the inverse of `parse_filter`."""
    values = {parameter.name: getattr(wanted, name) for name, parameter in PLAN_FILTERS.items()}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}
