"""`hookmirror refused`: lists kept refused requests, verifies them again, or drops them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from receiver.api.refused import RefusedRequest, show_refused
from receiver.codec import encode
from receiver.commands.closing import closed_at_the_end
from receiver.commands.numbers import parse_number
from receiver.commands.options import JsonFlag, no_reason
from receiver.commands.selection import once_source, source_named
from receiver.database.pages import read_page
from receiver.errors import ConfigurationError
from receiver.inbox import refused as kept_requests
from receiver.ingest.reverifying import Reverified
from receiver.logs.escapes import lines_of, visible
from receiver.logs.wording import counted
from receiver.moments import time_text
from receiver.runs.actions import Asked, by_command
from receiver.runs.refused import VERIFY_REFUSED, drop_refused, verify_refused
from receiver.server.runtime import Runtime, install

#: The most requests that are listed.
MOST_REFUSED_LISTED = 100


def refused(
    source: Annotated[str | None, typer.Argument(help="Only this source; all without it.")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Accept requests that verify with a present secret.")
    ] = False,
    drop: Annotated[bool, typer.Option("--drop", help="Drop them.")] = False,
    reason: Annotated[str, typer.Option(help="The reason, for the record of actions.")] = no_reason("refused"),
    show: Annotated[
        int | None, typer.Option(metavar="ID", parser=parse_number, help="Only this request, with its headers.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="The most requests to list.")] = MOST_REFUSED_LISTED,
    cursor: Annotated[
        int | None, typer.Option(metavar="ID", parser=parse_number, help="Only requests older than this one.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """List kept refused requests, which a secret added later may verify."""
    if verify and drop:
        raise ConfigurationError("--verify and --drop exclude each other: verify first, then drop the rest.")
    if show is not None and (verify or drop or source is not None):
        raise ConfigurationError("--show takes the id of one request, and nothing else: leave the other words out.")
    if reason != no_reason("refused") and not (verify or drop):
        raise ConfigurationError("--reason is for --verify and --drop: add one of them, or leave it out.")
    runtime = closed_at_the_end(install(quiet=True))
    runtime.open()
    if verify:
        done = _verified(runtime, source, reason)
        typer.echo(encode(done) if as_json else "\n".join(_told(name, each) for name, each in done.items()))
    elif drop:
        once_source(runtime.database, runtime.sources, source)
        asked = Asked(by=by_command(), what="drop refused", arguments={"source": source}, reason=reason)
        number = drop_refused(runtime.database, asked, source, now=datetime.now(UTC))
        typer.echo(encode({"dropped": number}) if as_json else f"Dropped requests: {number}.")
    elif show is not None:
        _show_kept(runtime, show, as_json)
    else:
        once_source(runtime.database, runtime.sources, source)
        _list(runtime, source, as_json, before=cursor, limit=limit)


def _verified(runtime: Runtime, name: str | None, reason: str) -> dict[str, dict[str, int]]:
    names = sorted(runtime.sources) if name is None else [name]
    listening = [source_named(runtime.sources, each) for each in names]
    done = {}
    for each in listening:
        asked = Asked(by=by_command(), what=VERIFY_REFUSED, arguments={"source": each.name}, reason=reason)
        done[each.name] = verify_refused(runtime.inbox, each, asked)._asdict()
    return done


def _told(name: str, done: dict[str, int]) -> str:
    verified = Reverified(**done)
    if not verified.number and not verified.left:
        return (
            f"{name}: no request is kept. `hookmirror serve` accepts those that a secret verifies as soon as it has "
            "the secret; `hookmirror actions` tells when."
        )
    return (
        f"{name}: {verified.number:,} verified ({verified.accepted:,} new, "
        f"{counted(verified.duplicates, 'duplicate')}), {verified.left:,} stay kept."
    )


def _show_kept(runtime: Runtime, request_id: int, as_json: bool) -> None:
    """Print one kept request. Raises `ConfigurationError` for an id that is not kept."""
    with runtime.database.read() as connection:
        row = kept_requests.one(connection, request_id)
    if row is None:
        raise ConfigurationError(f"No request {request_id} is kept: `hookmirror refused` lists those that are.")
    kept = show_refused(row)
    if as_json:
        typer.echo(encode(kept))
        return
    typer.echo(_kept_line(kept))
    for name, value in kept.headers:
        typer.echo(visible(f"{name}: {value}"))
    typer.echo(f"The body begins ({kept.begins_encoding}):")
    typer.echo("\n".join(visible(line) for line in lines_of(kept.begins)))


def _kept_line(kept: RefusedRequest) -> str:
    return visible(f"{kept.id} {time_text(kept.received_at)} {kept.source} {kept.code} {counted(kept.size, 'byte')}")


def _list(runtime: Runtime, source: str | None, as_json: bool, *, before: int | None, limit: int) -> None:
    wanted = kept_requests.listed(source=source, before=before)
    shown: list[Any] = []
    read_page(runtime.database, wanted, lambda row: shown.append(show_refused(row)), limit=limit)
    if as_json:
        typer.echo(encode({"items": shown}))
        return
    for each in shown:
        typer.echo(f"{_kept_line(each)} {visible(each.begins)[:60]}")
    with runtime.database.read() as connection:
        totals = kept_requests.totals(connection)
    number = sum(total.number for total in totals if source in (None, total.source))
    typer.echo(f"Kept requests: {number}." + (f" Shown: {len(shown)}." if number > len(shown) else ""))
