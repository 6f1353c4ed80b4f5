"""Filters of deliveries: the options of every command that chooses deliveries."""

from __future__ import annotations

from typing import Annotated

import typer

from receiver.commands.options import time_option
from receiver.inbox.states import State
from receiver.mirror.versions import Outcome

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
