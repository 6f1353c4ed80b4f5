"""`hookmirror reconcile`: compares the mirror with a source, and repairs it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from receiver.codec import encode
from receiver.commands.options import JsonFlag, source_named
from receiver.commands.progress import progress
from receiver.errors import ConfigurationError
from receiver.loading import foreign_code
from receiver.reconcile import date_back
from receiver.reconcile import reconcile as compare_and_repair
from receiver.server.runtime import install


def reconcile(
    source: Annotated[str, typer.Argument(help="The source, as in the settings.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the difference and change nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Believe a list that lacks very many rows.")] = False,
    misdated: Annotated[
        bool, typer.Option("--misdated", help="Only date back what is from the future; that needs no list.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Compare the mirror with the source's own list, and repair what differs."""
    if misdated and force:
        raise ConfigurationError("--misdated compares with no list, so --force has no effect: leave one of them out.")
    runtime = install()
    listening = source_named(runtime.sources, source)
    # A first reconcile fills an empty mirror, so it may create the database.
    runtime.prepare()
    with progress("rows listed") as seen:
        if misdated:
            report = date_back(runtime.database, listening, dry_run=dry_run)
        else:
            with foreign_code(f"The list of {source}"):
                report = compare_and_repair(
                    runtime.database, listening, dry_run=dry_run, force=force, progress=lambda rows: seen(rows)
                )
    repaired = [change._asdict() for change in report.repaired]
    typer.echo(encode({**asdict(report), "repaired": repaired}) if as_json else "\n".join(report.lines()))
    if report.braked:
        raise typer.Exit(1)
