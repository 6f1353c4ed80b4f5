"""Retention between the passes of a worker: one small batch at a time, so that it delays no delivery for long."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from receiver.database.database import Database
from receiver.inbox.retention import PAGES, Retention
from receiver.logs.safe_text import told

log = structlog.get_logger(__name__)

#: The pauses between two batches, and between two checks for expired rows of one kind.
PRUNE_PAUSE, PRUNE_INTERVAL = timedelta(seconds=1), timedelta(hours=1)


class RetentionTurns:
    """Drops expired rows of one kind after the other. A kind that fails is logged, and delays no other."""

    def __init__(self, retention: Retention, database: Database, *, now: datetime) -> None:
        self._drops: list[Callable[[datetime], int]] = [
            lambda now: retention.prune(database, now=now),
            *(lambda now, drop=drop: drop(database, now) for drop in retention.others),
            lambda _: database.shrink(PAGES),
        ]
        #: The time of the next batch, and that of the next check of each kind.
        self._at = now
        self._checks = [now] * len(self._drops)

    def take(self, now: datetime) -> None:
        """Drop one batch if it is time."""
        if not _is_time(self._at, now):
            return
        for kind, drop in enumerate(self._drops):
            if not _is_time(self._checks[kind], now):
                continue
            self._checks[kind] = now + PRUNE_INTERVAL
            try:
                dropped = drop(now)
            except Exception as error:
                # The deliveries are not at fault.
                log.error("cannot drop expired rows; trying again in an hour", error=told(error))
                continue
            if dropped:
                self._checks[kind] = now
                self._at = now + PRUNE_PAUSE
                return
        self._at = min(self._checks)


def _is_time(moment: datetime, now: datetime) -> bool:
    # A clock that was set back delays it by an hour at most.
    return not now < moment <= now + PRUNE_INTERVAL
