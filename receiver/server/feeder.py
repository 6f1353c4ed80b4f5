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
    """Make a feeder of runs that use only the database; `claims_of` returns the sources that the worker claims."""
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
    """Make a feeder of runs that call the sources' APIs; with `with_schedule`, it also begins due reconciles.

    Without it, it is that of a command, which ends with the first step that fails.
    """
    kinds = [Reconcile(inbox, sources, _now, only_misdated=only, waits=with_schedule) for only in (False, True)]
    look = ReconcileSchedule(verbs, sources, clock=_now).look if with_schedule else _nothing
    return Feeder(inbox.database, kinds, look=look)


def _nothing() -> None:
    """Do nothing, in place of a schedule."""


def _now() -> datetime:
    return datetime.now(UTC)
