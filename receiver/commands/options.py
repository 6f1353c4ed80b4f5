"""Options of `hookmirror` itself, and those that several commands share."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from receiver.release import release

#: The address that `hookmirror serve` has without options.
RECEIVER = "http://127.0.0.1:8000"

#: The forms of a time that every option takes, for its help.
TIME_FORMS = "As 2026-11-21T12:00:00Z, 14:02 for today in UTC, or 2h for two hours ago."

JsonFlag = Annotated[bool, typer.Option("--json", help="Answer in JSON, for machines.")]


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"hookmirror {release()}")
        raise typer.Exit


def hookmirror(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version, and end.")
    ] = False,
) -> None:
    """The receiving end for product-catalog webhooks."""


def time_option(what: str, *, metavar: str = "TIME") -> Any:
    """Make an option for a time in the forms that `parse_moment` and the API take."""
    return typer.Option(metavar=metavar, help=f"{what} {TIME_FORMS}")


def no_reason(command: str) -> str:
    """The reason that is recorded if the user gives none."""
    return f"by hookmirror {command}, without a reason"
