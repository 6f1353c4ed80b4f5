"""The metrics. Their names, labels and meanings are listed in docs/operations.md."""

from __future__ import annotations

import fcntl
import os
import threading
from bisect import bisect_right
from collections import Counter as Tally
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from receiver.errors import NotFound, Unavailable, UnknownSource
from receiver.metrics.sharing import SHARED_VARIABLE, locked
from receiver.schemas import NOT_VERIFIED

REGISTRY = CollectorRegistry()

#: Buckets in seconds, from a commit on a fast disk to a sender's timeout.
ACK_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

#: Buckets in seconds, from live to a day late.
FRESHNESS_BUCKETS = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3_600, 21_600, 86_400)

ACCEPTED_DELIVERIES = Counter(
    "hookmirror_deliveries", "Webhooks answered with 2xx, by answer", ["source", "status"], registry=REGISTRY
)
REFUSED = Counter(
    "hookmirror_refused", "Webhooks answered with an error, by its code", ["source", "code"], registry=REGISTRY
)
CHALLENGES = Counter(
    "hookmirror_challenges",
    "Challenges of senders, by result: `answered`, `refused` or `failed`",
    ["source", "result"],
    registry=REGISTRY,
)
VERIFIED = Counter(
    "hookmirror_verified",
    "Webhooks verified, by the position of the secret (0 is the newest) or `unsigned`",
    ["source", "secret"],
    registry=REGISTRY,
)
ACK_SECONDS = Histogram(
    "hookmirror_ack_seconds", "From the request to its answer", registry=REGISTRY, buckets=ACK_BUCKETS
)
READS_REFUSED = Counter(
    "hookmirror_reads_refused",
    "Requests to the API answered with 503: `busy`, too many at once, or `slow`, over the time limit",
    ["reason"],
    registry=REGISTRY,
)
ENDED_DELIVERIES = Counter(
    "hookmirror_ended", "Deliveries that ended, by state and outcome", ["source", "state", "outcome"], registry=REGISTRY
)
ENDED_ON_ARRIVAL = Counter(
    "hookmirror_ended_on_arrival",
    "Deliveries stored as ended, by state: dead because they cannot be read, or ignored",
    ["source", "state"],
    registry=REGISTRY,
)
FAILED_ATTEMPTS = Counter("hookmirror_failed_attempts", "Attempts that failed", ["source"], registry=REGISTRY)
UNHANDLED = Counter(
    "hookmirror_unhandled",
    "Deliveries stored as ignored because no handler takes their event type",
    ["source", "event_type"],
    registry=REGISTRY,
)
MISDATED = Counter(
    "hookmirror_misdated", "Events dated more than a day after their arrival", ["source"], registry=REGISTRY
)
MISSPELT = Counter(
    "hookmirror_misspelt",
    "Webhooks for an unknown source, by the known source with the most similar name",
    ["source"],
    registry=REGISTRY,
)
REFUSED_LOST = Counter(
    "hookmirror_refused_lost",
    "Refused requests that were not kept to be verified again, by the reason",
    ["source", "reason"],
    registry=REGISTRY,
)
REFUSED_VERIFIED = Counter(
    "hookmirror_refused_verified",
    "Kept requests that verified with a secret added later",
    ["source"],
    registry=REGISTRY,
)
API_RESTS = Counter(
    "hookmirror_api_rests", "Pauses of the calls to a source's API after failures", ["source"], registry=REGISTRY
)
FRESHNESS_SECONDS = Histogram(
    "hookmirror_freshness_seconds",
    "From the change at the source to the mirror, of first rounds",
    ["source"],
    registry=REGISTRY,
    buckets=FRESHNESS_BUCKETS,
)
APPLIED_SECONDS = Histogram(
    "hookmirror_applied_seconds",
    "From the arrival to the end, of first rounds",
    ["source"],
    registry=REGISTRY,
    buckets=FRESHNESS_BUCKETS,
)
FOLLOW_POSTS = Counter(
    "hookmirror_follow_posts",
    "Changes posted to a follower's target, by the meaning of the answer",
    ["name", "verdict"],
    registry=REGISTRY,
)
# These describe the database, which all processes share, so the newest value is exposed.
BACKLOG_DELIVERIES = Gauge(
    "hookmirror_backlog",
    "Deliveries by state, except processed and ignored ones",
    ["source", "state"],
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
FOLLOW_LAG_SECONDS = Gauge(
    "hookmirror_follow_lag_seconds",
    "Age of the oldest change that a follower has not reached",
    ["name"],
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
FOLLOW_LAG_CHANGES = Gauge(
    "hookmirror_follow_lag_changes",
    "Changes for a follower among the next ones of the feed, of which 100,000 are examined for all followers",
    ["name"],
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
FOLLOW_DEAD = Gauge(
    "hookmirror_follow_dead",
    "Changes that a follower's target refused, with those that wait behind them",
    ["name"],
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
OLDEST_PENDING_SECONDS = Gauge(
    "hookmirror_oldest_pending_seconds",
    "Age of the oldest due delivery that has not ended",
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
KEPT_REFUSALS = Gauge(
    "hookmirror_refused_kept",
    "Refused requests that are kept to be verified again",
    ["source"],
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
OPEN_FINDINGS = Gauge(
    "hookmirror_findings",
    "Open findings that are not acknowledged",
    ["rule", "source"],
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)

LOG_BYTES = Gauge(
    "hookmirror_sqlite_log_bytes",
    "Size of SQLite's write-ahead log on the disk",
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
SOUND = Gauge(
    "hookmirror_database_sound",
    "0 from an I/O error of SQLite until the database is proved sound; otherwise 1",
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
LIMITED = Counter(
    "hookmirror_limited", "Requests and connections ended at a limit, by the setting", ["limit"], registry=REGISTRY
)
ACCEPTOR_ENDED = Counter(
    "hookmirror_acceptor_ended",
    "Unexpected ends of acceptor processes, ends of those to which nothing could be sent, and starts that failed",
    registry=REGISTRY,
)
CONNECTIONS = Gauge(
    "hookmirror_connections", "Open connections of senders", registry=REGISTRY, multiprocess_mode="livesum"
)
INCOMPLETE_BYTES = Gauge(
    "hookmirror_incomplete_bytes",
    "Bytes of heads and bodies that are not complete",
    registry=REGISTRY,
    multiprocess_mode="livesum",
)

OPEN_RUNS = Gauge(
    "hookmirror_runs", "Unfinished runs, by state", ["state"], registry=REGISTRY, multiprocess_mode="mostrecent"
)
RUNS_LEFT = Gauge(
    "hookmirror_runs_left",
    "Deliveries and rows that running and paused runs have not finished",
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
HUNG_WORKERS = Gauge(
    "hookmirror_hung_workers",
    "Workers of this process that were given up and still hang",
    registry=REGISTRY,
    multiprocess_mode="livesum",
)


def text() -> bytes:
    """All metrics in Prometheus' text format: of this process, or of all processes that share a folder with it."""
    if SHARED_VARIABLE not in os.environ:
        return generate_latest(REGISTRY)
    shared = CollectorRegistry()
    MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
    with locked(Path(os.environ[SHARED_VARIABLE]), fcntl.LOCK_SH):
        return generate_latest(shared)


def begin_at_zero(sources: Iterable[str]) -> None:
    """Expose the counters of these sources that alarms watch before their first event.

    Prometheus sees no increase in a series that begins with its first event, and takes a missing series for no answer.
    """
    for source in sources:
        for status in ("accepted", "duplicate"):
            ACCEPTED_DELIVERIES.labels(source, status)
        for code in (*NOT_VERIFIED, Unavailable.code):
            REFUSED.labels(source, code)
        FAILED_ATTEMPTS.labels(source)
    for kind in (UnknownSource, NotFound, Unavailable):
        REFUSED.labels("", kind.code)


def count_items(items: Iterable[tuple[str, str]]) -> None:
    """Count the events behind the first of a body; each entry has a source and an answer."""
    for (source, status), number in Tally(items).items():
        ACCEPTED_DELIVERIES.labels(source, status).inc(number)


#: The challenges counted in this process since `take_challenges`, by source and result.
_challenges: Tally[tuple[str, str]] = Tally()


def count_challenge(source: str, result: str, number: int = 1) -> None:
    CHALLENGES.labels(source, result).inc(number)
    _challenges[source, result] += number


def take_challenges() -> list[tuple[str, str, int]]:
    """The source, result and number of the challenges counted since the last call, for the process that shows them."""
    taken = [(source, result, number) for (source, result), number in _challenges.items()]
    _challenges.clear()
    return taken


#: How many webhooks each secret verified, by its source and its mark. A position in the settings would belong to
#: another secret after a rotation.
uses_of_secrets: Tally[tuple[str, str]] = Tally()

# Commits and kept requests that verify again are counted on several threads.
_uses_lock = threading.Lock()


def count_accepted(batch: Iterable[tuple[str, int | None, str, str]]) -> None:
    """Count a whole batch at once; each entry has a source, the position and the mark of its secret, and an answer."""
    for (source, secret, mark, status), number in Tally(batch).items():
        ACCEPTED_DELIVERIES.labels(source, status).inc(number)
        if mark:
            with _uses_lock:
                uses_of_secrets[source, mark] += number
        VERIFIED.labels(source, "unsigned" if secret is None else str(secret)).inc(number)


@cache
def ended(source: str, state: str, outcome: str) -> Counter:
    """The counter of deliveries with this end."""
    return ENDED_DELIVERIES.labels(source, state, outcome)


@cache
def freshness(source: str) -> Histogram:
    """The freshness of one source."""
    return FRESHNESS_SECONDS.labels(source)


@cache
def applied(source: str) -> Histogram:
    """The lag of one source: the seconds from arrival to end."""
    return APPLIED_SECONDS.labels(source)


def observe_all(histogram: Histogram, values: Sequence[float]) -> None:
    """Observe all values at once, because single observations take longer than all other metrics of a delivery."""
    # The client library has no such function, so this uses its internals; a test compares it with `observe`.
    ascending, counted = sorted(values), 0
    for bucket, bound in zip(histogram._buckets, histogram._upper_bounds, strict=True):
        up_to_bound = bisect_right(ascending, bound)
        if up_to_bound > counted:
            bucket.inc(up_to_bound - counted)
            counted = up_to_bound
    histogram._sum.inc(sum(values))
