"""`hookmirror rows`: lists the rows of a table of the mirror, or the tables."""

from __future__ import annotations

from typing import Annotated

import typer

from receiver.codec import encode
from receiver.commands.client import TokenOption, ToOption, client_of
from receiver.commands.client_protocol import Client
from receiver.commands.pagination import USUAL_LIMIT, CursorOption, JsonLines, LimitOption, show_list
from receiver.errors import ConfigurationError

TABLES_PATH = "/api/v1/catalog"
ROWS_PATH = "/api/v1/catalog/{table}"

#: The first columns of a list, as far as the table has them, and a column that `active` makes needless.
ROW_COLUMNS, LEFT_OUT = (
    ("source", "external_id", "active", "changed_at", "tie", "sku", "name", "price"),
    ("deactivated_at",),
)


def rows(
    table: Annotated[str | None, typer.Argument(help="The table, such as products; without it, their names.")] = None,
    source: Annotated[str | None, typer.Option(help="Of this source.")] = None,
    active: Annotated[bool | None, typer.Option("--active/--no-active", help="Active, or not.")] = None,
    tie: Annotated[
        bool | None, typer.Option("--tie/--no-tie", help="With a tie: equal times, different values.")
    ] = None,
    sku: Annotated[str | None, typer.Option(help="With this SKU.")] = None,
    count: Annotated[bool, typer.Option("--count", help="Also count the matches.")] = False,
    limit: LimitOption = USUAL_LIMIT,
    cursor: CursorOption = None,
    to: ToOption = None,
    token: TokenOption = None,
    as_json: JsonLines = False,
) -> None:
    """List the rows of a table of the mirror, in the order of source and external id."""
    query = {
        "source": source,
        "active": active,
        "tie": tie,
        "sku": sku,
        "count": True if count else None,
        "cursor": cursor,
    }
    client = client_of(to, token)
    if table is None:
        _show_tables(client, [name for name, value in query.items() if value is not None], as_json)
        return
    show_list(
        client,
        ROWS_PATH,
        query,
        parts={"table": table},
        limit=limit,
        as_json=as_json,
        columns=ROW_COLUMNS,
        besides=LEFT_OUT,
    )


def _show_tables(client: Client, filters: list[str], as_json: bool) -> None:
    """Print the tables' names. Raises `ConfigurationError` for filters, which select rows."""
    if filters:
        raise ConfigurationError(f"--{filters[0]} selects rows: give the table before it, such as products.")
    for name in client.ask(TABLES_PATH, {}, {})["tables"]:
        typer.echo(encode(name) if as_json else name)
