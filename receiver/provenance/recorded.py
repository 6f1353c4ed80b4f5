"""Recorded changes: finds the change by which a delivery or a run wrote a column, and compares it with the row."""

from __future__ import annotations

from collections.abc import Sequence

from receiver.codec import is_same, plain
from receiver.mirror.versions import Registers
from receiver.provenance.candidates import RecordedChange
from receiver.provenance.origins import Origin
from receiver.provenance.traces import NO_VALUE, Told


def recorded_change(changes: Sequence[RecordedChange], origin: Origin, column: str) -> RecordedChange | None:
    """The first of these changes, newest first, by which the origin wrote the column; None if it is not kept."""
    return next((change for change in changes if column in change.after and _is_of(change, origin)), None)


def is_as_recorded(change: RecordedChange, column: str, path: str, held: Told, registers: Registers) -> bool:
    """Whether the value of the column, or of the document's member, equals the recorded one."""
    recorded = change.after[column]
    if path != column:
        member = path.removeprefix(f"{column}.")
        recorded = recorded.get(member, NO_VALUE) if isinstance(recorded, dict) else NO_VALUE
    elif any(name.startswith(f"{column}.") for name in registers.versions):
        # Members with their own versions are compared with the record one by one.
        return isinstance(held.value, dict) == isinstance(recorded, dict)
    return is_same(plain(held.value), recorded)


def _is_of(change: RecordedChange, origin: Origin) -> bool:
    if origin.delivery_id is not None:
        return bool(change.delivery_id == origin.delivery_id)
    return origin.run is not None and bool(change.run == origin.run.id)
