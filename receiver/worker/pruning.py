"""Drops expired rows between two passes of a worker, in small batches, so that no delivery is delayed for long."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from receiver.database.database import Database
from receiver.inbox.retention import PAGES, Retention
from receiver.logs.safe_text import told

log = structlog.get_logger(__name__)

#: The pauses between two batches of retention, and between two checks for expired rows.
PRUNE_PAUSE, PRUNE_INTERVAL = timedelta(seconds=1), timedelta(hours=1)


class Pruning:
    """The retention of one worker; without a `retention`, nothing is dropped."""

    def __init__(self, database: Database, retention: Retention | None, *, now: datetime) -> None:
        self._database, self._retention, self._prune_at = database, retention, now

    def look(self, now: datetime) -> None:
        """Drop one small batch of expired rows if it is time.

        A batch that fails is logged and tried again later: the deliveries are not at fault.
        """
        # A clock that was set back delays it by an hour at most.
        if self._retention is None or now < self._prune_at <= now + PRUNE_INTERVAL:
            return
        self._prune_at = now + PRUNE_INTERVAL
        try:
            retention, database = self._retention, self._database
            if (
                retention.prune(database, now=now)
                or retention.prune_others(database, now=now)
                or database.shrink(PAGES)
            ):
                self._prune_at = now + PRUNE_PAUSE
        except Exception as error:
            log.error("cannot drop expired rows; trying again in an hour", error=told(error))
