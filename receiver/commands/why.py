"""Prints the explanation of a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from receiver.commands.client import Client
from receiver.commands.tables import cell, print_table
from receiver.errors import HookmirrorError
from receiver.logs.escapes import visible
from receiver.moments import time_text

WHY_PATH = "/api/v1/catalog/{table}/{source}/{external_id:path}/why"

HEADINGS = ("column", "value", "as of", "from", "last lost against it", "checked")


def ask_why(client: Client, parts: Mapping[str, str]) -> dict[str, Any]:
    """Fetch the explanation of a row; on a failure, an object with `error` alone."""
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
    print_table(HEADINGS, [_row(each) for each in found["columns"]])
    for sentence in found["says"]:
        typer.echo(visible(sentence))
    for each in found["columns"]:
        if each["because"] is not None:
            typer.echo(visible(f"{each['column']}: {each['because']}."))
    if found["not_in_force"]:
        typer.echo("\ndeliveries about it that were never processed")
        columns = list(found["not_in_force"][0])
        print_table(columns, [[each[name] for name in columns] for each in found["not_in_force"]])


def _row(column: Mapping[str, Any]) -> list[Any]:
    value = "(a document)" if column["column"] == "data" and column["value"] is None else column["value"]
    return [
        column["column"] + (" (tie)" if column["tie"] else ""),
        value,
        column["changed_at"],
        _origin(column["origin"]),
        None if column["lost"] is None else _lost(column["lost"]),
        column["check"],
    ]


def _origin(origin: Mapping[str, Any]) -> str:
    if origin["kind"] == "delivery":
        return f"delivery {origin['delivery']}"
    if origin["kind"] == "reconcile":
        of_run = f", run {origin['run']}" if origin["run"] is not None else ""
        return f"reconcile of {time_text(origin['arrived_at'])}{of_run}"
    return f"not kept any more, {time_text(origin['arrived_at'])}"


def _lost(lost: Mapping[str, Any]) -> str:
    value = "no such member" if lost["absent"] else cell(lost["value"])
    return f"{value} of {time_text(lost['changed_at'])}, {lost['how']}, by delivery {lost['delivery']}"
