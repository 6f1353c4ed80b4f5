"""The oracle: a system's catalog as the rows that a correct mirror holds. The convergence check compares with it.

Each system records its changes here, with the number of the event that announced them. None of the receiver's code is
used: the rows follow from the catalog, and from the documented meaning of each event.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

#: The mirror's table and the entity's id in the source: ("products", "CELCOM10").
Key = tuple[str, str]

#: The columns of every table, without `data`. A column that no event announced is null in the mirror.
COLUMNS = ("sku", "name", "price", "currency", "parent", "lifecycle_state")


@dataclass(slots=True)
class Row:
    active: bool
    #: The number of the last event about this row. If that event is lost, only a reconcile can repair the row.
    event: int
    changed_at: datetime
    columns: dict[str, Any] = field(default_factory=dict)
    #: Whether the last two events about the row have equal times, so that only the source knows which is newer.
    tied: bool = False


class Oracle:
    """The rows of one source, including deactivated rows."""

    def __init__(self) -> None:
        self.rows: dict[Key, Row] = {}

    def __iter__(self) -> Iterator[tuple[Key, Row]]:
        return iter(self.rows.items())

    def put(self, key: Key, *, event: int, at: datetime, active: bool = True, **columns: Any) -> None:
        """Record that the row exists with these columns. Columns that are not named keep their announced values."""
        row = self._row(key, event=event, at=at)
        row.active = active
        row.columns.update(columns)

    def remove(self, key: Key, *, event: int, at: datetime) -> None:
        """Record that the row is gone, so that every earlier event about it changes nothing."""
        self._row(key, event=event, at=at).active = False

    def _row(self, key: Key, *, event: int, at: datetime) -> Row:
        row = self.rows.setdefault(key, Row(active=False, event=event, changed_at=at))
        row.tied = row.event != event and row.changed_at == at
        row.event = event
        row.changed_at = at
        return row
