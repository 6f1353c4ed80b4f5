"""`hookmirror migrate`: brings the database to the schema of this release."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from receiver.codec import encode
from receiver.commands.closing import closed_at_the_end
from receiver.commands.options import JsonFlag
from receiver.server.runtime import schema_of_packages


def migrate(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the pending migrations, and change nothing.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Bring the database to the schema of this release."""
    schema = closed_at_the_end(schema_of_packages())
    done = schema.checked_plan() if dry_run else schema.upgrade()
    typer.echo(encode(asdict(done) | {"dry_run": dry_run}) if as_json else "\n".join(done.lines(dry_run=dry_run)))
