"""The metrics for Prometheus: counters of the processes, and measurements of the inbox."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product
from threading import Lock

from sqlalchemy.exc import SQLAlchemyError

from receiver.api.stats import BACKLOG, Counts
from receiver.findings import record
from receiver.following.lag import lags
from receiver.inbox import refused
from receiver.inbox.inbox import Inbox
from receiver.metrics import metrics

#: The content type that Prometheus expects.
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: The time limit of one statement in seconds.
STATEMENT_SECONDS = 2.0


class Exposition:
    """Formats all metrics for Prometheus. The metrics of the processes do not depend on the database."""

    def __init__(self, inbox: Inbox, sources: list[str]) -> None:
        """`inbox` must have a separate connection, with statements bounded in time."""
        self._inbox = inbox
        self._counts = Counts(inbox.database, sources)
        #: The sources exposed so far. A source without a backlog must be exposed as 0.
        self._sources = set(sources)
        self._findings: set[tuple[str, str]] = set()
        self._followers: set[str] = set()
        self._measuring = Lock()
        metrics.begin_at_zero(sources)

    def renew(self, sources: list[str]) -> None:
        """Replace the sources."""
        self._counts = Counts(self._inbox.database, sources)
        self._sources |= set(sources)
        metrics.begin_at_zero(sources)

    def text(self) -> bytes:
        self.measure()
        return metrics.text()

    def measure(self) -> None:
        """Measure the inbox. During another measurement, the metrics keep their previous values."""
        if not self._measuring.acquire(blocking=False):
            return
        metrics.LOG_BYTES.set(self._inbox.database.log_bytes)
        metrics.SOUND.set(self._inbox.database.is_sound)
        try:
            now = datetime.now(UTC)
            metrics.OLDEST_PENDING_SECONDS.set(self._inbox.oldest_due_seconds(self._counts.sources, now=now))
            found = self._counts.backlog()
            self._sources |= {source for source, _ in found}
            for source, state in product(list(self._sources), BACKLOG):
                metrics.BACKLOG_DELIVERIES.labels(source, state.value).set(found.get((source, state.value), 0))
            self._measure_what_needs_a_person()
            self._measure_followers(now)
        except SQLAlchemyError:
            unknown()
        finally:
            self._measuring.release()

    def _measure_what_needs_a_person(self) -> None:
        with self._inbox.database.read() as connection:
            findings, kept = record.open_numbers(connection), refused.totals(connection)
        # A closed finding must be exposed as 0.
        self._findings |= findings.keys()
        for rule, source in self._findings:
            metrics.OPEN_FINDINGS.labels(rule, source).set(findings.get((rule, source), 0))
        numbers = {total.source: total.number for total in kept}
        self._sources |= numbers.keys()
        for source in list(self._sources):
            metrics.KEPT_REFUSALS.labels(source).set(numbers.get(source, 0))

    def _measure_followers(self, now: datetime) -> None:
        with self._inbox.database.read() as connection:
            found = {lag.follower["name"]: lag for lag in lags(connection, now=now)}
        # A removed follower must be exposed as 0.
        self._followers |= found.keys()
        for name in self._followers:
            lag = found.get(name)
            metrics.FOLLOW_LAG_SECONDS.labels(name).set(lag.seconds if lag else 0)
            metrics.FOLLOW_LAG_CHANGES.labels(name).set(lag.changes if lag else 0)
            metrics.FOLLOW_DEAD.labels(name).set(lag.dead + lag.waiting if lag else 0)


def unknown() -> None:
    """Expose the age of the backlog as unknown."""
    metrics.OLDEST_PENDING_SECONDS.set(float("nan"))
