"""`hookmirror doctor`: checks an installation."""

from __future__ import annotations

from dataclasses import asdict

import typer

from receiver.codec import encode
from receiver.commands.options import JsonFlag
from receiver.logs.escapes import visible
from receiver.server.doctor import examine
from receiver.settings.settings import load, settings_folder


def doctor(as_json: JsonFlag = False) -> None:
    """Check settings, secrets, wiring and database, and give advice. Exit code 1 if a check fails.

    Findings about senders and deliveries are shown, too, but they affect only the exit code of `findings`.
    """
    checks = list(examine(load, beside=settings_folder()))
    if as_json:
        typer.echo(encode([asdict(check) for check in checks]))
    else:
        for check in checks:
            typer.echo("\n".join(map(visible, f"{check.verdict:4} {check.subject}: {check.says}".split("\n"))))
    if not all(check.good for check in checks):
        raise typer.Exit(1)
