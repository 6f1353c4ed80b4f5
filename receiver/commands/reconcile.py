"""`hookmirror reconcile`: compares the mirror with a source, and repairs it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from receiver.codec import encode
from receiver.commands.ask import ask
from receiver.commands.closing import closed_at_the_end
from receiver.commands.options import JsonFlag, no_reason
from receiver.commands.progress import progress
from receiver.commands.selection import source_named
from receiver.commands.wiring import tell_other_workers
from receiver.dialects.sources import Source
from receiver.errors import ConfigurationError
from receiver.loading import foreign_code
from receiver.logs.safe_text import quoted
from receiver.reconcile import Report, date_back
from receiver.reconcile import reconcile as compare
from receiver.runs.actions import by_command
from receiver.runs.reconcile import check_reconcilable
from receiver.runs.reconciling import reconcile_now
from receiver.server.runtime import Runtime, install


def reconcile(
    source: Annotated[str, typer.Argument(help="The source, as in the settings.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the difference and change nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Deactivate missing rows beyond the brake.")] = False,
    misdated: Annotated[
        bool, typer.Option("--misdated", help="Only date back news from the future; needs no list.")
    ] = False,
    entity: Annotated[
        str | None, typer.Option(metavar="TABLE:ID", help="Repair only this row, by one lookup at the source.")
    ] = None,
    reason: Annotated[str, typer.Option(help="The reason, for the record of actions.")] = no_reason("reconcile"),
    as_json: JsonFlag = False,
) -> None:
    """Compare the mirror with the source's own list, and repair rows that differ."""
    if misdated and force:
        raise ConfigurationError("--misdated reads no list, so --force has no effect: leave one of them out.")
    if entity is not None:
        _one_row(source, entity, dry_run=dry_run, is_whole=force or misdated, reason=reason, as_json=as_json)
        return
    runtime = closed_at_the_end(install(quiet=True))
    listening = source_named(runtime.sources, source)
    if not misdated:
        check_reconcilable(listening)
    if dry_run or misdated:
        runtime.open()
    else:
        # A first reconcile fills an empty mirror, so it may create the database.
        runtime.prepare()
    if dry_run:
        report = _foreseen(runtime, listening, force=force, misdated=misdated)
    else:
        report = _repaired(runtime, listening, force=force, misdated=misdated, reason=reason)
    repaired = [change._asdict() for change in report.repaired]
    typer.echo(encode({**asdict(report), "repaired": repaired}) if as_json else "\n".join(report.lines()))
    tell_other_workers(runtime)
    if report.braked:
        raise typer.Exit(1)


def _one_row(source: str, entity: str, *, dry_run: bool, is_whole: bool, reason: str, as_json: bool) -> None:
    table, colon, external_id = entity.partition(":")
    if not (table and colon and external_id):
        raise ConfigurationError(f"--entity takes TABLE:ID, such as products:A1, not {quoted(entity)}.")
    if is_whole:
        raise ConfigurationError("--entity is about one row, so --force and --misdated have no effect: leave them out.")
    ask(table, source, external_id, repair=not dry_run, reason="" if dry_run else reason, as_json=as_json)


def _foreseen(runtime: Runtime, source: Source, *, force: bool, misdated: bool) -> Report:
    with progress("rows listed") as seen:
        if misdated:
            return date_back(runtime.database, source, dry_run=True)
        with foreign_code(f"The list of {source.name}"):
            return compare(runtime.database, source, dry_run=True, force=force, progress=seen)


def _repaired(runtime: Runtime, source: Source, *, force: bool, misdated: bool, reason: str) -> Report:
    feeder = runtime.reconciler()
    try:
        with progress("rows listed") as seen:
            return reconcile_now(
                runtime.runs,
                feeder,
                source,
                by=by_command(),
                reason=reason,
                force=force,
                only_misdated=misdated,
                progress=seen,
            )
    finally:
        feeder.close()
