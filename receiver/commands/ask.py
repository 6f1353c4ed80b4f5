"""`hookmirror ask`: compares one row of the mirror with its source."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from receiver.codec import encode
from receiver.commands.closing import closed_at_the_end
from receiver.commands.options import JsonFlag
from receiver.commands.selection import source_named
from receiver.commands.wiring import tell_other_workers
from receiver.errors import ConfigurationError
from receiver.loading import foreign_code
from receiver.logs.safe_text import quoted
from receiver.mirror.rows import MirrorRow, tables_by_name
from receiver.runs import asking
from receiver.runs.actions import by_command
from receiver.server.runtime import install


def ask(
    table: Annotated[str, typer.Argument(help="The table of the mirror, such as products.")],
    source: Annotated[str, typer.Argument(help="The source, as in the settings.")],
    external_id: Annotated[str, typer.Argument(metavar="ID", help="The row's id at its source.")],
    repair: Annotated[bool, typer.Option("--repair", help="Repair the mirror by the answer.")] = False,
    reason: Annotated[str, typer.Option(help="The reason for the repair; needed with --repair.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Ask the source for one row, and show the differences to the mirror. Exit code 1 if there still are any."""
    if reason and not repair:
        raise ConfigurationError("--reason is for a repair: add --repair, or leave it out.")
    runtime = closed_at_the_end(install(quiet=True))
    runtime.open()
    listening = source_named(runtime.sources, source)
    kind = table_named(table)
    with foreign_code(f"The lookup of {source}"):
        if repair:
            asked = asking.repair(runtime.runs, listening, kind, external_id, by=by_command(), reason=reason)
        else:
            asked = asking.ask(runtime.runs, listening, kind, external_id, by=by_command())
    shown = asdict(asked) | {"equal": asked.equal}
    shown["repaired"] = None if asked.repaired is None else [change._asdict() for change in asked.repaired]
    typer.echo(encode(shown) if as_json else "\n".join(asked.lines()))
    tell_other_workers(runtime)
    if asked.left or not (asked.equal or repair):
        raise typer.Exit(1)


def table_named(name: str) -> type[MirrorRow]:
    tables = tables_by_name()
    if name not in tables:
        raise ConfigurationError(f"The mirror has no table {quoted(name)}: choose one of {', '.join(sorted(tables))}.")
    return tables[name]
