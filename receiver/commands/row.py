"""`hookmirror row`: one row of the mirror with what became of it."""

from __future__ import annotations

from typing import Annotated

import typer

from receiver.codec import encode
from receiver.commands.asking import TokenOption, ToOption, answering
from receiver.commands.changes import COLUMNS
from receiver.commands.options import JsonFlag
from receiver.commands.tables import print_members, print_table

PATH = "/api/v1/catalog/{table}/{source}/{external_id:path}"

#: Changes that are shown to people.
SHOWN = 20


def row(
    table: Annotated[str, typer.Argument(help="The table, such as products.")],
    source: Annotated[str, typer.Argument(help="The source.")],
    external_id: Annotated[str, typer.Argument(metavar="ID", help="The id at the source.")],
    to: ToOption = None,
    token: TokenOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show one row of the mirror, and its changes, the newest first."""
    parts = {"table": table, "source": source, "external_id": external_id}
    found = answering(to, token).ask(PATH, parts, {})
    if as_json:
        typer.echo(encode(found))
        return
    print_members(found["row"])
    typer.echo("\nchanges")
    history = found["history"]
    print_table(COLUMNS, [[change[name] for name in COLUMNS] for change in history[:SHOWN]])
    if len(history) > SHOWN:
        typer.echo(f"and older ones: {len(history) - SHOWN}; --json has them all.")
