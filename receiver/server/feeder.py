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
from receiver.runs.reconcile import Reconcile
from receiver.runs.replay import Replay
from receiver.runs.runs import Verbs
from receiver.runs.schedule import ReconcileSchedule
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
    """A feeder of runs on the database alone; `claims_of` says what the worker beside it claims at the moment."""
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


def new_reconciler(inbox: Inbox, sources: Mapping[str, Source], verbs: Verbs, *, with_schedule: bool = False) -> Feeder:
    """A feeder of runs that ask the sources' APIs, which take their time; `with_schedule` it begins what is due."""
    kinds = [Reconcile(inbox, sources, _now, only_misdated=only) for only in (False, True)]
    look = ReconcileSchedule(verbs, sources, clock=_now).look if with_schedule else _nothing
    return Feeder(inbox.database, kinds, look=look)


def _nothing() -> None:
    """Nothing is due."""


def _now() -> datetime:
    return datetime.now(UTC)
