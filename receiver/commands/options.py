"""Options of `hookmirror` itself, and those that several commands share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from receiver.dialects.sources import Source
from receiver.errors import ConfigurationError
from receiver.release import release
from receiver.settings.environment import CONFIG_VARIABLE

#: A receiver that was started without options.
RECEIVER = "http://127.0.0.1:8000"

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


def source_named(sources: Mapping[str, Source], name: str) -> Source:
    """The source of this name. Raises `ConfigurationError` that names those there are."""
    if not sources:
        raise ConfigurationError(
            f"There is no source in the settings: name a TOML file in {CONFIG_VARIABLE} with a table [sources.{name}]. "
            "docs/operations.md has an example."
        )
    if name not in sources:
        raise ConfigurationError(
            f"There is no source {name!r} in the settings: choose one of {', '.join(sorted(sources))}."
        )
    return sources[name]
