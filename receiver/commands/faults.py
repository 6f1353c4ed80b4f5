"""`hookmirror faults`: lists dead and failing deliveries by cause."""

from __future__ import annotations

from typing import Annotated

import typer

from receiver.codec import encode
from receiver.commands.client import TokenOption, ToOption, client_of
from receiver.commands.options import JsonFlag
from receiver.commands.tables import print_table
from receiver.moments import time_text

FAULTS_PATH = "/api/v1/faults"

FAULT_COLUMNS = ("source", "cause", "dead", "waiting", "first", "last", "release", "delivery")


def faults(
    source: Annotated[str | None, typer.Option(help="Of this source.")] = None,
    to: ToOption = None,
    token: TokenOption = None,
    as_json: JsonFlag = False,
) -> None:
    """List dead and failing deliveries by cause, the largest first. Dead ones count while their bodies are kept."""
    found = client_of(to, token).ask(FAULTS_PATH, {}, {"source": source})["items"]
    if as_json:
        typer.echo(encode(found))
    elif found:
        shown = [each | {name: time_text(each[name]) for name in ("first", "last")} for each in found]
        print_table(FAULT_COLUMNS, [[each[name] for name in FAULT_COLUMNS] for each in shown])
    else:
        typer.echo("No dead delivery can be replayed, and no delivery has a failed attempt.")
