"""Recorded changes: what the change feed says that one delivery, or one run, made of a column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row

from receiver.mirror.unit_of_work import plain
from receiver.mirror.versions import Registers
from receiver.provenance.origins import Origin
from receiver.provenance.traces import NO_VALUE, Told


def recorded_change(changes: Sequence[Row[Any]], origin: Origin, column: str) -> Row[Any] | None:
    """The newest of these changes, given newest first, with which the origin wrote the column; None if none is kept."""
    return next((change for change in changes if column in change.after and _is_of(change, origin)), None)


def is_as_recorded(change: Row[Any], column: str, path: str, held: Told, registers: Registers) -> bool:
    """Whether the row holds in the column, or the member of its document, what was recorded."""
    recorded = change.after[column]
    if path != column:
        member = path.removeprefix(f"{column}.")
        recorded = recorded.get(member, NO_VALUE) if isinstance(recorded, dict) else NO_VALUE
    elif any(name.startswith(f"{column}.") for name in registers.versions):
        # Members that were told apart are held against the record one by one.
        return isinstance(held.value, dict) == isinstance(recorded, dict)
    return bool(plain(held.value) == recorded)


def _is_of(change: Row[Any], origin: Origin) -> bool:
    if origin.delivery_id is not None:
        return bool(change.delivery_id == origin.delivery_id)
    return origin.run is not None and bool(change.run == origin.run.id)
