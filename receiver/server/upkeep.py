"""Makes retention, findings and tallies from the settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection

from receiver.database.database import Database
from receiver.dialects.sources import Source
from receiver.findings import record, watching
from receiver.findings.gathering import Facts
from receiver.findings.retention import prune_tallies
from receiver.findings.situation import Followed, Reconciled, RunningProcess, StillRun
from receiver.findings.watching import FindingsWatch
from receiver.following import dead_changes, followers
from receiver.following.lag import waiting_since
from receiver.inbox import refused
from receiver.inbox.refused import Bounds
from receiver.inbox.retention import Retention
from receiver.release import release
from receiver.runs.comparisons import failed_reconciles, latest_comparisons, latest_dating_back
from receiver.runs.leases import with_expired_lease
from receiver.settings.settings import Settings
from receiver.worker.processes import Kind, Wiring, running, shown


def retention_of(settings: Settings) -> Retention:
    """The retention periods in the settings."""
    bounds = bounds_of(settings)

    def drop_refused(database: Database, now: datetime) -> int:
        return refused.prune(database, age=timedelta() if bounds is None else bounds.age, now=now)

    return Retention(
        bodies=timedelta(days=settings.body_retention_days),
        dedup_keys=timedelta(days=settings.dedup_retention_days),
        others=(drop_refused, prune_tallies, record.prune),
    )


def bounds_of(settings: Settings) -> Bounds | None:
    """The bounds on kept refused requests; None if none are kept."""
    if not settings.keep_refused:
        return None
    age = timedelta(hours=settings.refused_retention_hours)
    return Bounds(settings.max_refused, settings.max_refused_bytes, age)


def facts_of(settings: Settings, sources: Mapping[str, Source]) -> Facts:
    """The facts for the rules that are not in the database."""
    return Facts(
        sources,
        max_body_bytes=settings.max_body_bytes,
        max_backlog_seconds=settings.max_backlog_seconds,
        running=processes,
        reconciles=partial(reconciles, sources),
        dated_back=latest_dating_back,
        followers=followed,
        still_runs=still_runs,
    )


def processes(connection: Connection, now: datetime) -> Sequence[RunningProcess]:
    """The registered processes, in the form that the rules need."""
    return [
        RunningProcess(shown(row), works=Kind(row["kind"]).works, serves=Kind(row["kind"]).serves)
        for row in running(connection, now)
    ]


def reconciles(sources: Iterable[str], connection: Connection, now: datetime) -> Sequence[Reconciled]:
    """The latest reconcile of each source, and those that failed, in the form that the rules need."""
    compared = [Reconciled(**found._asdict()) for found in latest_comparisons(connection, sources, now)]
    failed = [
        Reconciled(each.source, each.began_at, 0, 0, trouble=each.trouble, run=each.run, next_run=each.next_run)
        for each in failed_reconciles(connection)
    ]
    return [*compared, *failed]


def followed(connection: Connection, now: datetime) -> Sequence[Followed]:
    """The followers, in the form that the rules need."""
    refused, served = dead_changes.first_dead(connection), set(followers.served(connection, now))
    every = followers.every(connection)
    waiting = waiting_since(connection, [row for row in every if row["name"] not in served], now)
    return [
        Followed(
            row["name"],
            row["trouble"],
            row["trouble_since"],
            is_served=row["name"] in served,
            unserved_since=waiting.get(row["name"]),
            stopped_at=row["seen_at"] if row["holder"] is None else None,
            dead=dead,
            dead_since=dead_since,
        )
        for row in every
        for dead, dead_since in [refused.get(row["name"], (0, None))]
    ]


def still_runs(connection: Connection, now: datetime) -> Sequence[StillRun]:
    """The runs at work whose lease has expired, in the form that the rules need."""
    return [StillRun(*found) for found in with_expired_lease(connection, now)]


def watch(database: Database, process: str, kind: Kind, facts: Callable[[], Facts]) -> FindingsWatch:
    """Make the writer of one process's tallies and findings, with a connection of its own."""
    own = database.beside(connections=1, seconds=watching.WATCH_STATEMENT_SECONDS)

    def what_runs() -> str:
        return f"{release()} {Wiring.of(facts().sources).fingerprint}"

    return FindingsWatch(own, process, facts, release=what_runs, serves=kind.serves)
