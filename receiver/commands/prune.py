"""`hookmirror prune`: drops data past its retention."""

from __future__ import annotations

from datetime import UTC, datetime

import typer

from receiver.codec import encode
from receiver.commands.closing import closed_at_the_end
from receiver.commands.options import JsonFlag
from receiver.commands.progress import progress
from receiver.inbox.retention import PAGES
from receiver.runs.retention import drop_old
from receiver.server.runtime import install


def prune(as_json: JsonFlag = False) -> None:
    """Drop expired bodies, dedup keys, refused requests and tallies. Workers do the same in small batches."""
    runtime = closed_at_the_end(install(quiet=True))
    runtime.open()
    dropped = 0
    with progress("deliveries pruned") as seen:
        while some := runtime.retention.prune(runtime.database, now=datetime.now(UTC)):
            dropped += some
            seen(dropped)
        while runtime.retention.prune_others(runtime.database, now=datetime.now(UTC)):
            seen(dropped)
        while drop_old(runtime.database, before=datetime.now(UTC) - runtime.retention.dedup_keys):
            seen(dropped)
        while runtime.database.shrink(PAGES):
            seen(dropped)
    typer.echo(encode({"pruned": dropped}) if as_json else f"Deliveries pruned: {dropped}.")
