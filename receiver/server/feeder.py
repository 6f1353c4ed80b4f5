"""Composition of the feeder: every run kind over the database and settings of this installation."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime

from receiver.dialects.sources import Source
from receiver.inbox.inbox import Inbox
from receiver.inbox.retention import Retention
from receiver.inbox.retries import RetrySchedule
from receiver.runs.feeder import Feeder
from receiver.runs.prune import Prune
from receiver.runs.replay import Replay
from receiver.settings.settings import Settings


def new_feeder(
    inbox: Inbox,
    sources: Mapping[str, Source],
    settings: Settings,
    retention: Retention,
    *,
    claims_of: Callable[[], Collection[str]] = lambda: (),
    forecasts: bool = True,
) -> Feeder:
    """A feeder for every kind of run; `claims_of` gives the sources from which the worker claims at the moment."""
    retries = RetrySchedule(attempts=settings.max_attempts)
    replay = Replay(
        inbox.database,
        inbox,
        sources,
        retries,
        batch_size=settings.batch_size,
        clock=_now,
        claimable=claims_of,
        forecasts=forecasts,
    )
    return Feeder(inbox.database, [replay, Prune(inbox.database, retention, _now)], keep=retention.dedup_keys)


def _now() -> datetime:
    return datetime.now(UTC)
