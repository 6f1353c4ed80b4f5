"""`hookmirror token`: prints a token for the API."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from receiver.api.tokens import Scope, Tokens
from receiver.settings.settings import load


def token(
    scope: Annotated[Scope, typer.Option(help="What the token allows; operate includes read.")] = Scope.READ,
    name: Annotated[str, typer.Option(help="Who acts with it, for the record of actions; `api` unless given.")] = "",
    days: Annotated[float, typer.Option(min=0.001, max=3650, help="How long it is valid.")] = 30,
) -> None:
    """Print a token for the API, and nothing else."""
    keys = load().secret_keys
    typer.echo(Tokens(keys).issue(scope, now=datetime.now(UTC), lifetime=timedelta(days=days), name=name))
