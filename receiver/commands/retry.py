"""`hookmirror retry`: has pending deliveries tried now, which wait for their next attempt."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from receiver.codec import encode
from receiver.commands.options import JsonFlag
from receiver.errors import ConfigurationError
from receiver.runs.actions import Asked, by_command
from receiver.runs.immediate_actions import try_now
from receiver.search.replayable import unknown_ids
from receiver.server.runtime import install

#: The recorded reason without --reason.
NO_REASON_TO_RETRY = "by hookmirror retry, without a reason"


def retry(
    ids: Annotated[list[int], typer.Argument(help="Delivery ids; `hookmirror deliveries --state pending` lists them.")],
    reason: Annotated[str, typer.Option(help="The reason, for the record of actions.")] = NO_REASON_TO_RETRY,
    as_json: JsonFlag = False,
) -> None:
    """Try pending deliveries now, which wait for their next attempt. Those that have ended are replayed instead."""
    runtime = install()
    runtime.open()
    wanted = sorted(set(ids))
    unknown = unknown_ids(runtime.database, wanted)
    if unknown:
        raise ConfigurationError(
            f"No delivery has the id {', '.join(map(str, unknown))}, so nothing is tried: correct or leave out what is "
            "wrong. `hookmirror deliveries` lists the ids."
        )
    arguments = {"deliveries": [str(each) for each in wanted]}
    asked = Asked(by=by_command(), what="try now", arguments=arguments, reason=reason)
    done = try_now(runtime.inbox, asked, wanted, now=datetime.now(UTC))
    tried = 0 if done is None else int(done.result["deliveries"])
    if as_json:
        typer.echo(encode({"tried": tried, "left": len(wanted) - tried}))
        return
    others = f" {len(wanted) - tried} wait for none: `hookmirror replay` is for those that have ended."
    typer.echo(f"Deliveries that are tried now: {tried}." + (others if tried < len(wanted) else ""))
