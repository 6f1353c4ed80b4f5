"""`hookmirror token`: prints a token for the API."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from receiver.api.tokens import Scope, Tokens
from receiver.settings.settings import load


def token(
    scope: Annotated[Scope, typer.Option(help="The token's scope; operate includes read.")] = Scope.READ,
    name: Annotated[str, typer.Option(help="The name recorded with its actions; `api` by default.")] = "",
    days: Annotated[float, typer.Option(min=0.001, max=3650, help="The days for which it is valid.")] = 30,
) -> None:
    """Print a token for the API, and nothing else."""
    keys = load().secret_keys
    typer.echo(Tokens(keys).issue(scope, now=datetime.now(UTC), lifetime=timedelta(days=days), name=name))
