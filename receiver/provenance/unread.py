"""Unread values: members of a source's object that an empty column could not hold.

A dialect that cannot read "21,90" as a price leaves the price empty, and the text stays in the source's object. Only
columns that cannot hold every text are examined, because a text column is never empty for this reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from receiver.database.columns import Document
from receiver.errors import HookmirrorError
from receiver.mirror.rows import MirrorRow, exact_columns, own_columns, sql_table
from receiver.mirror.versions import Registers

#: The most levels of objects that are searched, and the most members of one object.
DEEPEST, MOST_LOOKED_THROUGH = 3, 1_000

#: Values that mean that a member has no value.
EMPTY_MEMBERS: tuple[Any, ...] = (None, "", [], {})


class Unread(NamedTuple):
    """A value that a column could not hold."""

    #: The path of the value, such as `data.price`.
    path: str
    value: Any


def unread_value(table: type[MirrorRow], registers: Registers, column: str) -> Unread | None:
    """Find the value in the row's documents that has the name of an empty column and that the column cannot hold.

    None if there is none.
    """
    if column not in exact_columns(table) or column not in registers.versions:
        return None
    if registers.values.get(column) is not None:
        return None
    for each in sql_table(table).columns:
        if isinstance(each.type, Document):
            for found in _named(column, registers.values.get(each.name), each.name, DEEPEST):
                if not _fits(table, column, found.value):
                    return found
    return None


def _fits(table: type[MirrorRow], column: str, value: Any) -> bool:
    """Whether the column could hold the value, so that the dialect left it out for another reason."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) and "-" in value else value
    except ValueError:
        moment = value
    try:
        own_columns(table)[column](column, moment)
    except HookmirrorError:
        return False
    return True


def _named(wanted: str, value: Any, path: str, depth: int) -> Iterator[Unread]:
    """Yield the members with this name, the outermost first; objects within lists describe something else."""
    if not isinstance(value, dict):
        return
    if value.get(wanted) not in EMPTY_MEMBERS:
        yield Unread(f"{path}.{wanted}", value[wanted])
    if depth > 1:
        for member, inner in list(value.items())[:MOST_LOOKED_THROUGH]:
            if member != wanted:
                yield from _named(wanted, inner, f"{path}.{member}", depth - 1)
