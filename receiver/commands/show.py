"""`hookmirror show`: shows one delivery with body, headers, rounds and attempts."""

from __future__ import annotations

import sys
from base64 import b64decode
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from receiver.codec import encode
from receiver.commands.changes import SHOWN_CHANGES
from receiver.commands.client import TokenOption, ToOption, client_of
from receiver.commands.options import JsonFlag
from receiver.commands.tables import is_cut, print_members, print_table
from receiver.errors import ConfigurationError
from receiver.logs.escapes import hex_lines, visible, visible_lines

DELIVERY_PATH = "/api/v1/deliveries/{id}"

#: Members that are printed in separate sections.
BELOW = {"headers", "body", "body_encoding", "plain", "plain_encoding", "attempts", "rounds"}


def show(
    delivery: Annotated[str, typer.Argument(metavar="ID", help="The id of the delivery.")],
    body: Annotated[bool, typer.Option("--body", help="Write the body alone, byte for byte.")] = False,
    to: ToOption = None,
    token: TokenOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show one delivery: its state, headers, body, rounds, attempts, and the rows it changed."""
    if body and as_json:
        raise ConfigurationError("--body writes bytes and --json writes JSON: leave one of them out.")
    client = client_of(to, token)
    found = client.ask(DELIVERY_PATH, {"id": delivery}, {})
    if as_json:
        typer.echo(encode(found))
    elif body:
        sys.stdout.buffer.write(_bytes(found))
    else:
        _print(found)
        _print_changes(client.ask(f"{DELIVERY_PATH}/changes", {"id": delivery}, {"limit": SHOWN_CHANGES}), delivery)


def _bytes(found: Mapping[str, Any]) -> bytes:
    """Decode the body. Raises `ConfigurationError` if it has expired."""
    if found["body"] is None:
        raise ConfigurationError("The body has expired, so it cannot be shown: leave --body out to see the delivery.")
    return b64decode(found["body"]) if found["body_encoding"] == "base64" else found["body"].encode()


def _readable(content: str, encoding: str | None) -> str:
    """The lines of a body: its text, or hexadecimal digits if it is not text."""
    return "\n".join(hex_lines(b64decode(content))) if encoding == "base64" else visible_lines(content)


def _print(found: Mapping[str, Any]) -> None:
    print_members({name: value for name, value in found.items() if name not in BELOW})
    typer.echo("\nheaders")
    print_members(found["headers"]) if found["headers"] else typer.echo("none")
    typer.echo("\nbody")
    if found["body"] is None:
        typer.echo("expired")
    else:
        typer.echo(_readable(found["body"], found["body_encoding"]))
    if found["plain"] is not None:
        typer.echo("\nwhat the body holds")
        # A receiver of an earlier release does not give the encoding.
        typer.echo(_readable(found["plain"], found.get("plain_encoding")))
    for each in found["rounds"]:
        _print_round(each)


def _print_changes(page: Mapping[str, Any], delivery: str) -> None:
    """Print the rows that the delivery changed."""
    typer.echo("\nrows it changed")
    if not page["items"]:
        typer.echo("none")
        return
    names = ("table", "external_id", "operation", "before", "after")
    print_table(names, [[change[name] for name in names] for change in page["items"]])
    more = f"`hookmirror changes --delivery {visible(delivery)}`"
    if page["next"] is not None:
        typer.echo(f"and more: {more} lists all.")
    if is_cut(change[name] for change in page["items"] for name in names):
        typer.echo(f"A value that ends in … is cut: {more} with --json shows all of it.")


def _print_round(each: Mapping[str, Any]) -> None:
    """Print one round of the delivery, and its attempts."""
    typer.echo(f"\nround {each['number']}")
    print_members({name: value for name, value in each.items() if name not in ("number", "attempts")})
    if each["attempts"]:
        columns = [name for name in each["attempts"][0] if name != "traceback"]
        print_table(columns, [[attempt[name] for name in columns] for attempt in each["attempts"]])
    for attempt in each["attempts"]:
        if attempt["traceback"]:
            typer.echo(f"traceback of attempt {attempt['number']}")
            typer.echo(visible_lines(attempt["traceback"]))
