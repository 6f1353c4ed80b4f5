"""APIs that answer from a copy which is behind their own webhooks: when a handler waits for a later answer."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from handlers.api import wait_for_api
from receiver import Event, Mirror, MirrorRow

#: An object may be changed this much earlier than the time of its event, because times are in whole seconds, and the
#: sender takes a moment to make the event.
SAME = timedelta(seconds=1)


def wait_until_known(event: Event[Any], mirror: Mirror, table: type[MirrorRow]) -> None:
    """Raise `Retry` for an object that the API does not have yet. An object with an active row is gone instead."""
    row = mirror.get(table, event.entity_id)
    if row is None or not row.active:
        wait_for_api(event, row, "it does not have the object yet")


def wait_until_changed(
    event: Event[Any], mirror: Mirror, table: type[MirrorRow], answer: Any, changed_at: datetime | None
) -> None:
    """Raise `Retry` for an object without the event's change: the mirror has the same, and it is older than the event.

    `answer` is the whole object, and `changed_at` the time of change in it.
    """
    if changed_at is None or event.occurred_at - changed_at <= SAME:
        return
    row = mirror.get(table, event.entity_id)
    if row is not None and getattr(row, "data", None) == answer:
        wait_for_api(event, row, "it still has the object as the mirror has it")
