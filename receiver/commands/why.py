"""Prints the explanation of a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import typer

from receiver.commands.client_protocol import Client
from receiver.commands.tables import cell, print_table
from receiver.errors import HookmirrorError
from receiver.logs.escapes import visible
from receiver.logs.safe_text import sentence
from receiver.moments import time_text

WHY_PATH = "/api/v1/catalog/{table}/{source}/{external_id:path}/why"

#: The most characters of a value, and the most columns that are named with one cause.
LONGEST_VALUE, NAMED_COLUMNS = 80, 6

HEADINGS = ("column", "value", "as of", "from", "last lost against it", "checked")


def ask_why(client: Client, parts: Mapping[str, str]) -> dict[str, Any]:
    """Fetch the explanation of a row; on a failure, an object with only `error`."""
    try:
        return dict(client.ask(WHY_PATH, parts, {}))
    except HookmirrorError as error:
        return {"error": str(error)}


def print_why(found: Mapping[str, Any]) -> None:
    """Print the explanation below a heading."""
    typer.echo("\nwhy")
    if "error" in found:
        typer.echo(visible(found["error"]))
        return
    print_table(HEADINGS, [_row(each, found["columns"]) for each in found["columns"]])
    for line in found["says"]:
        typer.echo(visible(line))
    for line in _open_questions(found["columns"]):
        typer.echo(visible(line))
    if found["not_in_force"]:
        typer.echo("\ndeliveries about it that were never processed")
        columns = list(found["not_in_force"][0])
        print_table(columns, [[each[name] for name in columns] for each in found["not_in_force"]])


def _open_questions(columns: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the causes for which values are unexplained or differ, each once with its columns."""
    about: dict[str, list[str]] = {}
    for each in columns:
        if each["because"] is not None:
            about.setdefault(each["because"], []).append(each["column"])
    for because, names in about.items():
        named = ", ".join(names[:NAMED_COLUMNS]) if len(names) <= NAMED_COLUMNS else f"{len(names)} columns and members"
        yield f"{named if len(names) < len(columns) else 'the whole row'}: {sentence(because)}"


def _row(column: Mapping[str, Any], columns: Sequence[Mapping[str, Any]]) -> list[Any]:
    is_document = column["value"] is None and any(each["column"].startswith(f"{column['column']}.") for each in columns)
    return [
        column["column"] + (" (tie)" if column["tie"] else ""),
        "(a document)" if is_document else _value(column["value"]),
        column["changed_at"],
        _origin(column["origin"]),
        None if column["lost"] is None else _lost(column["lost"]),
        column["check"],
    ]


def _value(value: Any) -> str:
    text = cell(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"


def _origin(origin: Mapping[str, Any]) -> str:
    if origin["kind"] == "delivery":
        return f"delivery {origin['delivery']}"
    if origin["run"] is not None:
        return f"{origin['run_kind']} run {origin['run']} of {origin['arrived_at']}"
    if origin["kind"] == "reconcile":
        of_run = f", run {origin['run']}" if origin["run"] is not None else ""
        return f"reconcile of {time_text(origin['arrived_at'])}{of_run}"
    return f"not kept any more, {time_text(origin['arrived_at'])}"


def _lost(lost: Mapping[str, Any]) -> str:
    value = "no such member" if lost["absent"] else _value(lost["value"])
    return f"{value} of {time_text(lost['changed_at'])}, {lost['how']}, by delivery {lost['delivery']}"
