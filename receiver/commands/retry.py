"""`hookmirror retry`: makes the next attempt of pending deliveries due now."""

from __future__ import annotations

from typing import Annotated

import typer

from receiver.codec import encode
from receiver.commands.client import TokenOption, ToOption, client_of
from receiver.commands.filters import EntityFilter, EventTypeFilter, ReasonHasFilter, SourceFilter
from receiver.commands.options import JsonFlag, no_reason
from receiver.errors import ConfigurationError
from receiver.interrupts import EndingAtOnce

TRY_PATH = "/api/v1/try"

EITHER = "Ids and filters exclude each other: leave one of them out."
NONE_CHOSEN = "No deliveries are selected: give ids, or at least one filter, such as --source or --reason-has."


def retry(
    ids: Annotated[
        list[int] | None,
        typer.Argument(help="Delivery ids, as `hookmirror deliveries --state pending` lists them; or filters."),
    ] = None,
    source: SourceFilter = None,
    event_type: EventTypeFilter = None,
    entity: EntityFilter = None,
    reason_has: ReasonHasFilter = None,
    reason: Annotated[str, typer.Option(help="The reason, for the record of actions.")] = no_reason("retry"),
    to: ToOption = None,
    token: TokenOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Make the next attempt of pending deliveries due now. To try finished deliveries again, use `replay`."""
    filters = {"source": source, "event_type": event_type, "entity": entity, "reason_has": reason_has}
    if bool(ids) == any(value is not None for value in filters.values()):
        raise ConfigurationError(EITHER if ids else NONE_CHOSEN)
    chosen = filters if not ids else {"ids": ",".join(map(str, sorted(set(ids))))}
    client = client_of(to, token)
    answer = client.do(TRY_PATH, {}, {**chosen, "reason": reason})
    tried, more = int(answer["deliveries"]), bool(answer.get("more"))
    left = len(set(ids)) - tried if ids else 0
    others = f" {left} of the given deliveries wait for no attempt, and stay as they are." if left else ""
    further = " More of them match: run this again for the next ones." if more else ""
    told = f"Deliveries that are tried now: {tried}.{others}{further}"
    typer.echo(encode({"tried": tried, "left": left, "more": more}) if as_json else told)
    if to is None:
        # Imported here, because a question to another receiver needs nothing of the application.
        with EndingAtOnce():
            from receiver.commands.local_client import LocalClient
            from receiver.commands.wiring import tell_other_workers

        assert isinstance(client, LocalClient)
        tell_other_workers(client.runtime)
