"""`hookmirror replay`: replays finished deliveries."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from receiver.codec import encode
from receiver.commands.options import JsonFlag, source_named
from receiver.database.database import Database
from receiver.errors import ConfigurationError
from receiver.inbox.tables import ENDED, State
from receiver.search.filters import DeliveryFilter
from receiver.search.replayable import replayable_ids, unknown_ids
from receiver.search.sources import is_source
from receiver.server.app import install


def replay(
    ids: Annotated[list[int] | None, typer.Argument(help="Deliveries; none for all that the options name.")] = None,
    source: Annotated[str | None, typer.Option(help="Those of this source.")] = None,
    state: Annotated[
        State | None, typer.Option(help="Those in this state, which has to be done: processed, ignored, dead.")
    ] = None,
    event_type: Annotated[str | None, typer.Option(help="Those of this event type.")] = None,
    entity: Annotated[str | None, typer.Option(help="Those about this entity, as kind:id or id.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count them.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Send deliveries through again, as after a fix. Older news never overwrites newer, replayed or not."""
    wanted = DeliveryFilter(source=source, state=state, event_type=event_type, entity=entity)
    if bool(ids) == (wanted != DeliveryFilter()):
        raise ConfigurationError("Say which: ids, or at least one of --source, --state, --event-type and --entity.")
    if state not in (None, *ENDED):
        raise ConfigurationError(f"What is {state} is not done yet: --state takes one of {', '.join(ENDED)} here.")
    runtime = install()
    runtime.prepare()
    if ids:
        wanted = _named(runtime.database, ids)
    if source is not None and not is_source(runtime.database, source):
        source_named(runtime.sources, source)
    found = 0
    for some in replayable_ids(runtime.database, wanted):
        found += len(some) if dry_run else runtime.inbox.replay(some, now=datetime.now(UTC))
    left = len(wanted.ids) - found if wanted.ids else 0
    answer = {"replayed": found, "left": left, "dry_run": dry_run}
    typer.echo(encode(answer) if as_json else _replayed(found, left, dry_run))


def _named(database: Database, ids: Sequence[int]) -> DeliveryFilter:
    """Those with these ids. Raises `ConfigurationError` naming the ids that no delivery has."""
    unknown = unknown_ids(database, ids)
    if unknown:
        raise ConfigurationError(
            f"No delivery has the id {', '.join(map(str, unknown))}, so nothing is replayed: correct or leave out what "
            "is wrong. /api/v1/deliveries lists the ids."
        )
    return DeliveryFilter(ids=tuple(set(ids)))


def _replayed(found: int, left: int, dry_run: bool) -> str:
    not_replayed = f" {left} of those named cannot be replayed: not done yet, or the body has expired." if left else ""
    return f"Deliveries that {'would be' if dry_run else 'are'} pending again: {found}.{not_replayed}"
