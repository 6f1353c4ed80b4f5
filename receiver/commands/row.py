"""`hookmirror row`: shows one row of the mirror, its changes, and the provenance of its values."""

from __future__ import annotations

from typing import Annotated

import typer

from receiver.codec import encode
from receiver.commands.changes import CHANGE_COLUMNS, SHOWN_CHANGES
from receiver.commands.client import TokenOption, ToOption, client_of
from receiver.commands.options import JsonFlag
from receiver.commands.tables import print_members, print_table, tell_cut
from receiver.commands.why import ask_why, print_why

ROW_PATH = "/api/v1/catalog/{table}/{source}/{external_id:path}"


def row(
    table: Annotated[str, typer.Argument(help="The table, such as products.")],
    source: Annotated[str, typer.Argument(help="The source.")],
    external_id: Annotated[str, typer.Argument(metavar="ID", help="The id at the source.")],
    to: ToOption = None,
    token: TokenOption = None,
    as_json: JsonFlag = False,
    why: Annotated[bool, typer.Option("--why/--no-why", help="Explain values by running its deliveries again.")] = True,
) -> None:
    """Show one row of the mirror: its values, the provenance of each value, and its changes, newest first."""
    parts = {"table": table, "source": source, "external_id": external_id}
    client = client_of(to, token)
    found = client.ask(ROW_PATH, parts, {})
    if why:
        found["why"] = ask_why(client, parts)
    if as_json:
        typer.echo(encode(found))
        return
    print_members(found["row"])
    if why:
        print_why(found["why"])
    typer.echo("\nchanges")
    history = found["history"]
    changes = history[:SHOWN_CHANGES]
    print_table(CHANGE_COLUMNS, [[change[name] for name in CHANGE_COLUMNS] for change in changes])
    if len(history) > SHOWN_CHANGES:
        typer.echo(f"and older ones: {len(history) - SHOWN_CHANGES}; --json has them all.")
    tell_cut([*found["row"].values(), *(change[name] for change in changes for name in ("before", "after"))])
