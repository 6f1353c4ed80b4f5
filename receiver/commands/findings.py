"""`hookmirror findings`: lists the findings, which need a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Annotated

import typer

from receiver.api.findings import FindingList, WholeFinding, show_finding, show_standing
from receiver.codec import encode
from receiver.commands.closing import closed_at_the_end
from receiver.commands.options import JsonFlag
from receiver.errors import ConfigurationError, NotFound
from receiver.findings import record
from receiver.findings.standing import Standing, standing
from receiver.logs.escapes import visible
from receiver.logs.safe_text import sentence, whole_sentence
from receiver.moments import time_text
from receiver.runs.actions import Asked, by_command
from receiver.server.runtime import Runtime, install


def findings(
    finding: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Only this finding, with its circumstances.")
    ] = None,
    acknowledge: Annotated[
        str | None, typer.Option(metavar="ID", help="Mark it as known: its alarm is silent until it closes.")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="A note, for the record of actions.")] = None,
    show_all: Annotated[bool, typer.Option("--all", help="Also show the closed findings of the last year.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """List the findings, with their beginnings and advice. Exit code 1 if an open finding is not acknowledged."""
    if finding is not None and (acknowledge is not None or show_all):
        raise ConfigurationError("One finding is shown by its id alone: leave --acknowledge and --all out.")
    if reason is not None and acknowledge is None:
        raise ConfigurationError("--reason is a note on an acknowledgement: add --acknowledge ID, or leave it out.")
    runtime = closed_at_the_end(install(quiet=True))
    runtime.open()
    if finding is not None:
        _show_one(runtime, finding, as_json=as_json)
        return
    if acknowledge is not None:
        _acknowledge(runtime, acknowledge, reason)
    found, examined_at = standing(runtime.database, runtime.facts(), now=datetime.now(UTC), closed=show_all)
    if as_json:
        typer.echo(encode(FindingList([show_standing(each) for each in found], examined_at)))
    else:
        typer.echo("\n".join(lines(found)))
    if any(each.closed_at is None and each.acknowledged_at is None for each in found):
        raise typer.Exit(1)


def _show_one(runtime: Runtime, finding_id: str, *, as_json: bool) -> None:
    """Print one finding. Raises `ConfigurationError` for an unknown id."""
    try:
        found = show_finding(runtime.database, runtime.facts(), finding_id, now=datetime.now(UTC))
    except NotFound:
        raise ConfigurationError(
            f"There is no finding {finding_id[:64]!r}: `hookmirror findings --all` lists them."
        ) from None
    typer.echo(encode(found) if as_json else "\n".join(map(visible, _details(found))))


def _details(found: WholeFinding) -> Iterator[str]:
    yield f"{found.rule} ({found.id}): {whole_sentence(found.says)}"
    yield f"    Since {found.since:%Y-%m-%d %H:%M UTC}. {found.mend}"
    for each in found.circumstances:
        yield f"    {each.at:%Y-%m-%d %H:%M UTC}  {sentence(each.says)}"
    for earlier in found.before:
        until = f"until {earlier.closed_at:%Y-%m-%d %H:%M UTC}" if earlier.closed_at is not None else "and still"
        yield f"    It was open from {earlier.opened_at:%Y-%m-%d %H:%M UTC} {until}."


def _acknowledge(runtime: Runtime, finding_id: str, reason: str | None) -> None:
    """Acknowledge a finding. Raises `ConfigurationError` if no open finding has this id."""
    asked = Asked(by=by_command(), what="acknowledge finding", arguments={"finding": finding_id}, reason=reason)
    if record.acknowledge(runtime.database, asked, finding_id, now=datetime.now(UTC)) is None:
        raise ConfigurationError(
            f"No finding with the id {finding_id[:64]!r} is open, or no process has recorded it yet: "
            "`hookmirror findings` lists them."
        )


def lines(found: Sequence[Standing]) -> Iterator[str]:
    """Format findings as lines of text. Advice that several in a row have stands once, after the last of them."""
    if not found:
        yield "Nothing needs you."
    for each, following in zip_longest(found, found[1:]):
        yield visible(f"{each.rule} ({each.id}): {whole_sentence(each.says)}")
        if each.closed_at is not None:
            yield f"    Closed at {time_text(each.closed_at)}."
            continue
        if each.acknowledged_by is not None:
            yield visible(f"    Acknowledged by {each.acknowledged_by}.")
        if following is None or following.closed_at is not None or following.mend != each.mend:
            yield visible(f"    {each.mend}")
