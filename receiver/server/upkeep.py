"""Upkeep: the retention periods of the settings, and the parts of the program that keep tallies and findings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection

from receiver.database.database import Database
from receiver.dialects.sources import Source
from receiver.findings import record, tallies, watching
from receiver.findings.gathering import Facts
from receiver.findings.situation import RunningProcess
from receiver.findings.watching import FindingsWatch
from receiver.inbox import refused
from receiver.inbox.refused import Bounds
from receiver.inbox.retention import Retention
from receiver.release import release
from receiver.settings.settings import Settings
from receiver.worker.processes import Kind, Wiring, running, shown


def retention_of(settings: Settings) -> Retention:
    """How long everything is kept."""
    bounds = bounds_of(settings)

    def drop_refused(database: Database, now: datetime) -> int:
        return refused.prune(database, age=timedelta() if bounds is None else bounds.age, now=now)

    return Retention(
        bodies=timedelta(days=settings.body_retention_days),
        dedup_keys=timedelta(days=settings.dedup_retention_days),
        others=(drop_refused, tallies.prune, record.prune),
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
    )


def processes(connection: Connection, now: datetime) -> Sequence[RunningProcess]:
    """Those that are registered, as the rules want to know them."""
    return [
        RunningProcess(
            shown(row), works=row["kind"] in (Kind.WORKER, Kind.BOTH), serves=row["kind"] in (Kind.ENDPOINT, Kind.BOTH)
        )
        for row in running(connection, now)
    ]


def watch(database: Database, process: str, kind: Kind, facts: Callable[[], Facts]) -> FindingsWatch:
    """Tallies and findings of one process, over a connection of its own."""
    own = database.beside(connections=1, seconds=watching.WATCH_STATEMENT_SECONDS)

    def what_runs() -> str:
        return f"{release()} {Wiring.of(facts().sources).fingerprint}"

    return FindingsWatch(own, process, facts, release=what_runs, serves=kind is not Kind.WORKER)
