"""`hookmirror send`: sends one webhook as its source does."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from receiver.codec import encode
from receiver.commands.addresses import recorded_here
from receiver.commands.options import RECEIVER, JsonFlag, time_option
from receiver.commands.selection import source_named
from receiver.dialects.sources import build_sources, find_dialects
from receiver.logs.escapes import visible
from receiver.search.arguments import parse_moment
from receiver.server import sending
from receiver.settings.settings import load, settings_folder
from receiver.worker.processes import endpoint_here


def send(
    source: Annotated[str, typer.Argument(help="The source to send as, from the settings.")],
    what: Annotated[str, typer.Argument(metavar="EVENT_TYPE|FILE", help="The event type, or a file with the body.")],
    to: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The receiver's URL; a path replaces /hooks/SOURCE. By default that of a server on this machine, or "
            f"{RECEIVER}.",
        ),
    ] = None,
    entity_id: Annotated[str, typer.Option("--id", help="The id of the entity.")] = sending.USUAL_ID,
    at: Annotated[str | None, time_option("The time of change; now by default.")] = None,
    data: Annotated[str | None, typer.Option(help="The dialect's object, as JSON.")] = None,
    header: Annotated[
        list[str] | None, typer.Option(metavar="NAME:VALUE", help="A header to send; may be given several times.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Send one webhook, signed or encrypted like those of the source."""
    settings = load()
    sources = build_sources(settings, find_dialects(settings.dialects, beside=settings_folder()))
    speaking = source_named(sources, source)
    url = sending.address(to or recorded_here(settings, endpoint_here) or RECEIVER, source)
    moment = parse_moment("at", at, now=datetime.now(UTC)) if at else datetime.now(UTC)
    body = sending.body_of(speaking, what, entity_id=entity_id, at=moment, data=data)
    headers = sending.headers_of(speaking, what, header or [])
    sent = sending.send(speaking, body, url, headers)
    if to is None:
        # On standard error, because programs read the answer.
        typer.echo(f"Posted to {url}; --to URL names another address.", err=True)
    answer = "\n".join(map(visible, sent.answer.split("\n")))
    lines = filter(None, [f"{sent.status} {answer}", sent.says])
    typer.echo(encode(asdict(sent)) if as_json else "\n".join(lines))
    if not sent.is_acked:
        raise typer.Exit(1)
