"""APIs that answer from a copy which is behind their own webhooks: when a handler waits for a later answer."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from handlers.api import wait_for_api
from receiver import Event, Mirror, MirrorRow

#: The value of `event.hydrated` for an object that the API does not have.
GONE = "gone"

#: An object may be changed this much earlier than the time of its event, because times are in whole seconds, and the
#: sender takes a moment to make the event.
SAME = timedelta(seconds=1)


def deactivate_gone(event: Event[Any], mirror: Mirror, table: type[MirrorRow]) -> None:
    """Deactivate the row of an object that the API does not have.

    Raises `Retry` if it has no active row, because the API may not have the object yet.
    """
    row = mirror.get(table, event.entity_id)
    if row is None or not row.active:
        wait_for_api(event, row, "it does not have the object yet")
    mirror.deactivate(table, event.entity_id)


def time_of_answer(
    event: Event[Any], mirror: Mirror, table: type[MirrorRow], answer: Any, changed_at: datetime | None
) -> datetime:
    """Return the time at which to write an answer: that of its change, or that of the event, whichever is later.

    `answer` is the whole object, and `changed_at` the time of change in it. Raises `Retry` for an object without the
    event's change: the mirror has the same, and it is older than the event.
    """
    if changed_at is None:
        return event.occurred_at
    if event.occurred_at - changed_at > SAME:
        row = mirror.get(table, event.entity_id)
        if row is not None and getattr(row, "data", None) == answer:
            wait_for_api(event, row, "it still has the object as the mirror has it")
    return max(event.occurred_at, changed_at)
