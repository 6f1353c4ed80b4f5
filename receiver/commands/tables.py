"""Prints aligned tables and lists of members, with control characters escaped, so that data cannot forge output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from receiver.codec import encode, plain, shortened
from receiver.logs.escapes import visible
from receiver.moments import time_text

#: The width for output that is not a terminal, so that no line is folded.
UNFOLDED = 100_000

#: The most characters of an object or a list, and of one member of an object that is longer.
LONGEST_JSON, LONGEST_MEMBER = 160, 40

#: The note below a table with a cut value.
CUT = "A value that ends in … is cut: --json shows all of it."


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows below their headings."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.upper(), overflow="fold")
    for row in rows:
        table.add_row(*(Text(_of_column(name, value)) for name, value in zip(columns, row, strict=True)))
    _print(table)


def print_members(members: Mapping[str, Any]) -> None:
    """Print names with their values, one per line."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in members.items():
        table.add_row(Text(visible(name)), Text(_of_column(name, value)))
    _print(table)


def cell(value: Any) -> str:
    """Format a JSON value for people: numbers with all digits, long objects and lists cut."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, (Decimal, datetime)):
        return str(plain(value))
    return visible(_json(value))


def tell_cut(values: Iterable[Any], *, longest: int | None = None) -> None:
    """Print a note if one of these values is cut in its cell, where a text may have `longest` characters."""
    if is_cut(values, longest=longest):
        typer.echo(CUT)


def is_cut(values: Iterable[Any], *, longest: int | None = None) -> bool:
    """Whether one of these values is cut in its cell; without `longest`, no text is."""
    return any(
        len(encode(value).decode()) > LONGEST_JSON
        if isinstance(value, (dict, list))
        else longest is not None and isinstance(value, str) and len(value) > longest
        for value in values
    )


def _json(value: Any) -> str:
    """Format as compact JSON, cut. In a long object, the members are cut first, so that all names are shown."""
    if not isinstance(value, dict) or len(encode(value).decode()) <= LONGEST_JSON:
        return shortened(value, LONGEST_JSON)
    members = (f"{encode(name).decode()}:{shortened(member, LONGEST_MEMBER)}" for name, member in value.items())
    text = f"{{{','.join(members)}}}"
    return text if len(text) <= LONGEST_JSON else f"{text[: LONGEST_JSON - 1]}…"


def _of_column(name: str, value: Any) -> str:
    """Format the value of a column: Hookmirror's own times to the second, other values unchanged."""
    is_time = isinstance(value, datetime) or (isinstance(value, str) and (name.endswith("_at") or name == "as of"))
    try:
        return visible(time_text(value)) if is_time else cell(value)
    except ValueError:
        return cell(value)


def _print(table: Table) -> None:
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, emoji=False, width=UNFOLDED)
        # Otherwise every line would be padded with blanks to the full width.
        with console.capture() as captured:
            console.print(table)
        typer.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))
        return
    console.print(table)
