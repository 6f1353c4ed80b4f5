"""`hookmirror search`: finds rows and deliveries by any identifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from receiver.codec import encode
from receiver.commands.client import TokenOption, ToOption, client_of
from receiver.commands.options import JsonFlag
from receiver.commands.tables import print_table
from receiver.commands.wording import command_words
from receiver.logs.escapes import visible

SEARCH_PATH = "/api/v1/search"

ROW = ("found by", "table", "source", "external_id", "sku", "name", "price", "active", "changed_at")
FOUND_DELIVERY_COLUMNS = (
    "found by",
    "id",
    "received_at",
    "source",
    "event_type",
    "entity",
    "state",
    "outcome",
    "reason",
)


def search(
    text: Annotated[str, typer.Argument(help="A SKU, an external id, kind:id, a delivery's id, or a dedup key.")],
    to: ToOption = None,
    token: TokenOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Find rows and deliveries by an identifier, case-sensitively."""
    found = client_of(to, token).ask(SEARCH_PATH, {}, {"q": text})
    if as_json:
        typer.echo(encode(found))
        return
    # The only parameters of the API that the sentence names.
    typer.echo(visible(command_words(found["says"], ["dedup_key", "entity"])))
    _print("rows", ROW, [{**hit["row"], "found by": hit["kind"], "table": hit["table"]} for hit in found["rows"]])
    _print(
        "deliveries",
        FOUND_DELIVERY_COLUMNS,
        [{**hit["delivery"], "found by": hit["kind"]} for hit in found["deliveries"]],
    )
    if not found["rows"] and not found["deliveries"]:
        looked = [{"kind": each["kind"], "where": ", ".join(each["where"])} for each in found["looked"]]
        _print("looked for as", ("kind", "where"), looked)


def _print(title: str, columns: Sequence[str], items: Sequence[Mapping[str, Any]]) -> None:
    if items:
        typer.echo(f"\n{title}")
        print_table(columns, [[item.get(name) for name in columns] for item in items])
