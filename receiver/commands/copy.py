"""`hookmirror copy`: copies one database into another, and compares them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from receiver.codec import encode
from receiver.copying.copying import Copier, CopyReport
from receiver.copying.copying import CopyProgress as Told
from receiver.copying.preconditions import Side
from receiver.dialects.sources import find_dialects
from receiver.interrupts import INTERRUPTED
from receiver.mirror.rows import mirror_tables
from receiver.settings.settings import load, settings_folder


def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="The URL of the database to copy.")],
    target: Annotated[
        str, typer.Argument(metavar="TO", help="The URL of an empty database, or of an unfinished copy.")
    ],
    verify_only: Annotated[
        bool, typer.Option("--verify-only", help="Only compare the two, and change nothing.")
    ] = False,
    afresh: Annotated[
        bool, typer.Option("--afresh", help="Drop the rows of an unfinished copy in TO, and begin again.")
    ] = False,
    without: Annotated[
        list[str] | None,
        typer.Option(help="Leave out this table, or table.column, of a package that is not installed."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON, for machines.")] = False,
) -> None:
    """Copy everything in one database into another, from SQLite to PostgreSQL, back, or to the same system."""
    settings = load()
    # Loads the dialects, which declare the tables to be copied.
    find_dialects(settings.dialects, beside=settings_folder())
    mirror_tables()
    sides = Side("FROM", source), Side("TO", target)
    try:
        with _progress() as told:
            copier = Copier(*sides, without=without or (), progress=told)
            report = copier.verify() if verify_only else copier.copy(afresh=afresh)
    except KeyboardInterrupt:
        next_time = "it starts again" if verify_only else "it continues after the copied rows"
        sys.stderr.write(f"hookmirror: Stopped. Run the same command again: {next_time}.\n")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        for side in sides:
            side.database.close()
    typer.echo(_json(report) if as_json else "\n".join(lines(report, verify_only=verify_only)))
    if not report.same or report.unfinished:
        raise typer.Exit(1)


def _json(report: CopyReport) -> bytes:
    tables = [asdict(table) | {"same": table.same} for table in report.tables]
    found = [difference._asdict() for difference in report.differences]
    return encode({**asdict(report), "tables": tables, "differences": found, "same": report.same})


def lines(report: CopyReport, *, verify_only: bool) -> Iterator[str]:
    """Format the report as lines of text."""
    width = max(len(table.table) for table in report.tables)
    for table in report.tables:
        beside = f"digest {table.digest}" if table.same else f"DIFFERENT: {table.rows_copied_to} rows in TO"
        yield f"{table.table:<{width}}  {table.rows:>12} rows  {beside}"
    yield from (f"{each.table} {each.key}: {each.what}" for each in report.differences)
    for name in report.left_out:
        yield f"{name} is left out: no package here declares it."
    if report.unfinished:
        same = "although no row is missing" if report.same else "so the two differ"
        yield (
            f"{report.target} holds {report.unfinished}, {same}: run this without --verify-only to finish it; nothing "
            "can serve or work on it before that."
        )
    elif report.same:
        done = "Compared" if verify_only else f"Copied {report.copied} rows, and compared"
        yield f"{done}: {report.target} and {report.source} are equal."
    elif verify_only:
        yield f"{report.target} and {report.source} differ."
    else:
        yield (
            f"{report.target} and {report.source} differ, so another process wrote to one of them. End it, and run "
            "this again with --afresh."
        )


@contextmanager
def _progress() -> Iterator[Told]:
    """Show a progress bar for each table on standard error, if that is a terminal."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed} rows"))
    console = Console(stderr=True)
    with Progress(
        *columns, TimeElapsedColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        tasks: dict[str, TaskID] = {}

        def told(doing: str, table: str, rows: int, of: int | None) -> None:
            name = f"{doing} {table}"
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=of)
            progress.advance(tasks[name], rows)

        yield told
