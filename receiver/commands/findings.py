"""`hookmirror findings`: says what needs a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from receiver.api.findings import FindingList, show_standing
from receiver.codec import encode
from receiver.commands.options import JsonFlag
from receiver.findings.standing import Standing, standing
from receiver.logs.escapes import visible
from receiver.server.app import install


def findings(
    show_all: Annotated[bool, typer.Option("--all", help="Those too that are closed, of the last year.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Say what needs a person, since when, and what to do. Exit code 1 if something does that nobody knows of."""
    runtime = install()
    runtime.prepare()
    found = standing(runtime.database, runtime.facts(), now=datetime.now(UTC), closed=show_all)
    if as_json:
        typer.echo(encode(FindingList([show_standing(each) for each in found])))
    else:
        typer.echo("\n".join(lines(found)))
    if any(each.closed_at is None and each.acknowledged_at is None for each in found):
        raise typer.Exit(1)


def lines(found: Sequence[Standing]) -> Iterator[str]:
    """The findings for people."""
    if not found:
        yield "Nothing needs you."
    for each in found:
        yield visible(f"{each.rule} ({each.id}): {each.says}.")
        if each.closed_at is not None:
            yield f"    Closed at {each.closed_at:%Y-%m-%d %H:%M UTC}."
            continue
        if each.acknowledged_by is not None:
            yield visible(f"    Acknowledged by {each.acknowledged_by}.")
        yield visible(f"    {each.mend}")
