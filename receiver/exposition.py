"""What Prometheus is told: the metrics of the processes, and how the inbox stands."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy.exc import SQLAlchemyError

from receiver import metrics
from receiver.deliveries import State
from receiver.inbox import Inbox
from receiver.queries import Statistics

#: As Prometheus wants it named.
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition(inbox: Inbox, statistics: Statistics) -> bytes:
    """All metrics, in Prometheus' text form. Those of the processes are worth having most when the database is away."""
    metrics.LOG_BYTES.set(inbox.database.log_bytes)
    metrics.SOUND.set(inbox.database.is_sound)
    try:
        now = datetime.now(UTC)
        metrics.OLDEST_PENDING_SECONDS.set(inbox.oldest_due_seconds(statistics.sources, now=now))
        for source in statistics.per_source(now=now):
            for state in (State.PENDING, State.PROCESSING, State.DEAD):
                metrics.BACKLOG.labels(source["source"], state.value).set(source["states"][state])
    except SQLAlchemyError:
        metrics.OLDEST_PENDING_SECONDS.set(float("nan"))
    return metrics.text()
