"""`hookmirror retry`: makes the next attempt of pending deliveries due now."""

from __future__ import annotations

from typing import Annotated

import typer

from receiver.codec import encode
from receiver.commands.client import TokenOption, ToOption, client_of
from receiver.commands.options import JsonFlag, no_reason
from receiver.interrupts import EndingAtOnce

TRY_PATH = "/api/v1/try"


def retry(
    ids: Annotated[list[int], typer.Argument(help="Delivery ids; `hookmirror deliveries --state pending` lists them.")],
    reason: Annotated[str, typer.Option(help="The reason, for the record of actions.")] = no_reason("retry"),
    to: ToOption = None,
    token: TokenOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Make the next attempt of pending deliveries due now. To try finished deliveries again, use `replay`."""
    query = {"ids": ",".join(map(str, sorted(set(ids)))), "reason": reason}
    client = client_of(to, token)
    tried = int(client.do(TRY_PATH, {}, query)["deliveries"])
    left = len(set(ids)) - tried
    others = f" {left} of the given deliveries wait for no attempt, and stay as they are." if left else ""
    told = f"Deliveries that are tried now: {tried}.{others}"
    typer.echo(encode({"tried": tried, "left": left}) if as_json else told)
    if to is None:
        # Imported here, because a question to another receiver needs nothing of the application.
        with EndingAtOnce():
            from receiver.commands.local_client import LocalClient
            from receiver.commands.wiring import tell_other_workers

        assert isinstance(client, LocalClient)
        tell_other_workers(client.runtime)
