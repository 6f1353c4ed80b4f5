"""The oracle: a system's catalog, row by row, in the columns of the mirror. It is the measure of convergence.

Each system records its changes here, with the number of the event that announced them. The receiver's code has no part
in it: the rows follow from the catalog, and from the documented meaning of each event.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

#: The mirror's table and the entity's id in the source: ("products", "CELCOM10").
Key = tuple[str, str]

#: Columns every table has, besides `data`. A column never announced is null in the mirror.
COLUMNS = ("sku", "name", "price", "currency", "parent", "lifecycle_state")


@dataclass(slots=True)
class Row:
    active: bool
    #: The event that last said something about this row; if it got lost, only a reconcile brings its news.
    event: int
    changed_at: datetime
    columns: dict[str, Any] = field(default_factory=dict)
    #: Two events about it at one moment: which is the newer, only its source can say.
    tied: bool = False


class Oracle:
    """The rows of one source, deactivated ones included."""

    def __init__(self) -> None:
        self.rows: dict[Key, Row] = {}

    def __iter__(self) -> Iterator[tuple[Key, Row]]:
        return iter(self.rows.items())

    def put(self, key: Key, *, event: int, at: datetime, active: bool = True, **columns: Any) -> None:
        """The row exists, with these columns; those not named stay as they were announced before."""
        row = self._row(key, event=event, at=at)
        row.active = active
        row.columns.update(columns)

    def remove(self, key: Key, *, event: int, at: datetime) -> None:
        """The row is gone, and every event before this one is old news."""
        self._row(key, event=event, at=at).active = False

    def _row(self, key: Key, *, event: int, at: datetime) -> Row:
        row = self.rows.setdefault(key, Row(active=False, event=event, changed_at=at))
        row.tied = row.event != event and row.changed_at == at
        row.event = event
        row.changed_at = at
        return row
