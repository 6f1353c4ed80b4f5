"""The wiring of a command, compared with that of the running workers, which may have loaded other code."""

from __future__ import annotations

from datetime import UTC, datetime

import typer

from receiver.logs.escapes import visible
from receiver.server.runtime import Runtime
from receiver.worker.processes import shown, workers_unlike


def tell_other_workers(runtime: Runtime) -> None:
    """Name on standard error each running worker that has another release, or other code or sources, than this command.

    A person who has mended a handler, and replays before the worker is restarted, would see the same failure again.
    """
    wiring = runtime.runs.wiring
    with runtime.database.read() as connection:
        others = workers_unlike(connection, wiring, datetime.now(UTC))
    for process in others:
        modules = wiring.edited(process["wiring"])
        has = f"another text of {', '.join(modules)}" if modules else "another release, or other handlers or sources,"
        typer.echo(
            visible(
                f"The {shown(process)} has loaded {has} than this command: restart it, or run the command with the "
                "settings and the code that it has."
            ),
            err=True,
        )
