"""Inboxes filled with events of one source."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime

from benchmarks.senders import IIMMPACT, Sender
from receiver.database.database import Database
from receiver.dialects.sources import Source
from receiver.inbox.arrival import Arrival
from receiver.inbox.inbox import Inbox

SOURCE = IIMMPACT.name

#: Events in one accept.
BATCH = 200


def sources() -> Mapping[str, Source]:
    return {SOURCE: IIMMPACT.source}


def fill(url: str, first: int, count: int) -> None:
    """Accept this many events, beginning with the `first`th. Different numbers make different events."""
    with closing(Database(url)) as database:
        inbox = Inbox(database)
        for start in range(first, first + count, BATCH):
            inbox.accept([arrival(number) for number in range(start, min(start + BATCH, first + count))])


def arrival(number: int, sender: Sender = IIMMPACT) -> Arrival:
    """Make the arrival of the `number`th event, as the endpoint passes it to the inbox."""
    body = sender.body(number)
    arriving = Arrival(
        source=sender.name,
        body=body,
        plain=None,
        headers={"content-type": "application/json"},
        received_at=datetime.now(UTC),
        secret=0,
    )
    arriving.know(sender.source.read(body))
    return arriving
