"""`hookmirror capture`: shows the requests of an unknown sender, and writes one to files for `new-dialect`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from receiver.api.refused import show_refused
from receiver.codec import encode, storable
from receiver.commands.closing import closed_at_the_end
from receiver.commands.new_dialect import write_files
from receiver.commands.numbers import parse_number
from receiver.commands.options import JsonFlag
from receiver.commands.refused import MOST_REFUSED_LISTED
from receiver.commands.selection import once_source
from receiver.database.pages import read_page
from receiver.dialects.capturing import CAPTURE_DIALECT
from receiver.errors import ConfigurationError
from receiver.fixtures import HEADERS_BESIDE, is_header
from receiver.inbox import refused as kept_requests
from receiver.inbox.refused import Refusal
from receiver.logs.escapes import visible
from receiver.logs.wording import counted
from receiver.moments import time_text
from receiver.server.runtime import Runtime, install

#: The mode of files with what a sender posted, like that of a database: for this user only.
OWN_MODE = 0o600

UNVERIFIED = "This request is not verified, so any program may have posted it. It changed nothing in the mirror."


def capture(
    source: Annotated[str, typer.Argument(help="The source that captures.")],
    request_id: Annotated[
        int | None,
        typer.Argument(metavar="[ID]", parser=parse_number, help="The id of a captured request, to show it in full."),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the body to FILE, and the headers to a file beside it; by default, of the newest request.",
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the requests of an unknown sender, and write one to files for new-dialect."""
    runtime = closed_at_the_end(install(quiet=True))
    runtime.open()
    once_source(runtime.database, runtime.sources, source)
    if request_id is None and write is None:
        _list_captured(runtime, source, as_json)
        return
    with runtime.database.read() as connection:
        found = kept_requests.found(connection, source, request_id)
    if found is None:
        raise ConfigurationError(_nothing(runtime, source, request_id))
    if write is not None:
        written = write_capture(found, write)
        typer.echo(encode(written) if as_json else "\n".join(map(visible, _told(written))))
    elif as_json:
        typer.echo(encode(_whole(found)))
    else:
        shown = _whole(found)
        lines = [visible(f"{name}: {value}") for name, value in headers_of(found).items()]
        body = shown["body"] if shown["encoding"] == "hex" else "\n".join(map(visible, shown["body"].split("\n")))
        typer.echo("\n".join([UNVERIFIED, f"{time_text(found.received_at)} {found.code}", *lines, "", body]))


def headers_of(request: Refusal) -> dict[str, str]:
    """The headers of a kept request; the values of a repeated header are joined."""
    joined: dict[str, str] = {}
    for name, value in request.headers:
        # Names with a colon at the beginning are not headers of the sender, such as the one for the query.
        if not name.startswith(b":"):
            text, key = value.decode("utf-8", "replace"), name.decode("latin-1").lower()
            joined[key] = f"{joined[key]}, {text}" if key in joined else text
    return joined


def _list_captured(runtime: Runtime, source: str, as_json: bool) -> None:
    shown: list[Any] = []
    wanted = kept_requests.listed(source=source, before=None)
    read_page(runtime.database, wanted, lambda row: shown.append(show_refused(row)), limit=MOST_REFUSED_LISTED)
    if as_json:
        typer.echo(encode({"items": shown}))
        return
    if not shown:
        typer.echo(_nothing(runtime, source, None))
        return
    typer.echo(UNVERIFIED)
    for each in shown:
        typer.echo(f"{each.id} {time_text(each.received_at)} {counted(each.size, 'byte')} {visible(each.begins)[:80]}")
    typer.echo(f"`hookmirror capture {source} {shown[0].id}` shows one; --write captured.json writes it to files.")


def write_capture(found: Refusal, file: Path) -> dict[str, Any]:
    """Write the body to the file and the headers to the file beside it, and return the names of both.

    Raises `ConfigurationError` if that is not possible.
    """
    if not file.name:
        raise ConfigurationError(f"--write takes the name of a file, such as captured.json, not {str(file)!r}.")
    beside = file.with_name(file.name.removesuffix(".json") + HEADERS_BESIDE)
    headers = headers_of(found)
    usable = {name: value for name, value in headers.items() if is_header(name, value)}
    files = {file.name: found.body, beside.name: encode(usable) + b"\n"}
    write_files(file.parent, files, others="another name for --write", mode=OWN_MODE)
    left = [name for name in headers if name not in usable]
    names = {"body": storable(str(file)), "headers": storable(str(beside))}
    return {"id": str(found.id), "verified": False, **names, "left_out": left}


def _told(written: dict[str, Any]) -> Iterator[str]:
    yield f"Wrote {written['body']} and {written['headers']}. {UNVERIFIED}"
    if written["left_out"]:
        left = ", ".join(written["left_out"])
        yield f"Left out, because a file of headers takes printable ASCII only: {left}."
    yield f"Next: hookmirror new-dialect NAME --from {written['body']}"


def _whole(found: Refusal) -> dict[str, Any]:
    try:
        body, encoding = found.body.decode(), "text"
    except UnicodeDecodeError:
        body, encoding = found.body.hex(), "hex"
    return {
        "id": str(found.id),
        "source": found.source,
        "received_at": found.received_at,
        "code": found.code,
        "verified": False,
        "headers": headers_of(found),
        "body": body,
        "encoding": encoding,
    }


def _nothing(runtime: Runtime, source: str, request_id: int | None) -> str:
    """Explain why there is nothing to show, with advice."""
    if request_id is not None:
        return f"No request {request_id} of {source} is kept: `hookmirror capture {source}` lists those that are."
    if not runtime.settings.keep_refused:
        return "Nothing is captured, because `keep_refused` is false: set it to true."
    known = runtime.sources.get(source)
    if known is not None and known.dialect.name == CAPTURE_DIALECT:
        return f"Nothing was captured yet: let the sender post to /hooks/{source}, and ask again after a second."
    return (
        f'No request of {source} is kept, and the source does not capture: write dialect = "{CAPTURE_DIALECT}" in '
        f"[sources.{source}], and restart `hookmirror serve`."
    )
