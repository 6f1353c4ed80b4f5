"""Prints aligned tables and lists of members, with control characters escaped, so that data cannot forge output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from receiver.codec import encode
from receiver.logs.escapes import visible

#: The width for output that is not a terminal, so that no line is folded.
UNFOLDED = 100_000


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows below their headings."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.upper(), overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell(value)) for value in row))
    _print(table)


def print_members(members: Mapping[str, Any]) -> None:
    """Print names with their values, one a line."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in members.items():
        table.add_row(Text(visible(name)), Text(cell(value)))
    _print(table)


def cell(value: Any) -> str:
    """Format a JSON value as text, with all digits of a number."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    return visible(encode(value).decode())


def _print(table: Table) -> None:
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, emoji=False, width=UNFOLDED)
        # Otherwise every line would be padded with blanks to that width.
        with console.capture() as captured:
            console.print(table)
        typer.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))
        return
    console.print(table)
