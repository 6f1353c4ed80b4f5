"""Options of `hookmirror` itself, which stand before a command."""

from __future__ import annotations

from typing import Annotated

import typer

from receiver.release import release


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
