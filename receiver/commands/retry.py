"""`hookmirror retry`: makes the next attempt of pending deliveries due now."""

from __future__ import annotations

from typing import Annotated

import typer

from receiver.codec import encode
from receiver.commands.client import TokenOption, ToOption, client_of
from receiver.commands.options import JsonFlag, no_reason

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
    tried = int(client_of(to, token).do(TRY_PATH, {}, query)["deliveries"])
    left = len(set(ids)) - tried
    if as_json:
        typer.echo(encode({"tried": tried, "left": left}))
        return
    others = f" {left} of the given deliveries wait for no attempt, and stay as they are." if left else ""
    typer.echo(f"Deliveries that are tried now: {tried}.{others}")
