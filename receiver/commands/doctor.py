"""`hookmirror doctor`: checks an installation."""

from __future__ import annotations

from dataclasses import asdict

import typer

from receiver.codec import encode
from receiver.commands.options import JsonFlag
from receiver.server.doctor import examine
from receiver.settings.settings import load, settings_folder


def doctor(as_json: JsonFlag = False) -> None:
    """Check settings, secrets, wiring and database, and say what to mend."""
    findings = list(examine(load, beside=settings_folder()))
    if as_json:
        typer.echo(encode([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            typer.echo(f"{finding.verdict:4} {finding.subject}: {finding.says}")
    if not all(finding.good for finding in findings):
        raise typer.Exit(1)
