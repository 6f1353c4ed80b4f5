"""Filters of deliveries, rows and changes; a field that is None matches all."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from receiver.errors import BadRequest
from receiver.inbox.states import State
from receiver.mirror.versions import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    """A filter of deliveries."""

    source: str | None = None
    state: State | None = None
    outcome: Outcome | None = None
    event_type: str | None = None
    #: `id` or `kind:id`.
    entity: str | None = None
    #: The time of arrival: at or after the first, and before the second.
    begin: datetime | None = None
    end: datetime | None = None
    #: Text that the reason contains, case-sensitively.
    reason: str | None = None
    conflict: bool | None = None
    #: The sender's own id, or the key that was made without one.
    dedup_key: str | None = None
    ids: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Raise `BadRequest` if the time ends before it begins."""
        if self.begin is not None and self.end is not None and self.begin > self.end:
            raise BadRequest(
                "`from` is later than `to`, so nothing lies between them: swap them.", names=("from", "to")
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFilter:
    """A filter of the rows of one mirror table."""

    source: str | None = None
    active: bool | None = None
    tie: bool | None = None
    sku: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeFilter:
    """A filter of changes of the feed."""

    table: str | None = None
    source: str | None = None
    #: Recorded at this moment or later.
    since: datetime | None = None
    #: The id of the delivery that caused the changes.
    delivery: int | None = None


def as_text(wanted: DeliveryFilter | RowFilter | ChangeFilter) -> dict[str, Any]:
    """The filter's given fields as a JSON object; equal filters give equal objects."""
    named = {name: value for name, value in asdict(wanted).items() if value is not None}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in named.items()}
