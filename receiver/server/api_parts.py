"""The API of a process, made of the parts of the process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from receiver.api import exposition, readiness
from receiver.api.ask import SourceQuestions
from receiver.api.errands import Errands
from receiver.api.exposition import Exposition
from receiver.api.probes import Probes
from receiver.api.read_budget import COST_OF_POSTGRESQL, SHARE, SHARE_ON_POSTGRESQL, ReadBudget
from receiver.api.readiness import Readiness
from receiver.api.reads import Reads
from receiver.api.resources import ApiParts
from receiver.api.routes import Api
from receiver.api.system import CheckShown, InstallationFacts
from receiver.api.tokens import Tokens
from receiver.dialects.sources import Source
from receiver.findings import record, tallies
from receiver.inbox.inbox import Inbox
from receiver.inbox.retries import RetrySchedule
from receiver.ingest.incoming import Incoming
from receiver.provenance.why import explainer
from receiver.runs.schedule import statuses
from receiver.search.cursors import Cursors
from receiver.server.doctor import examine_running
from receiver.server.errands import new_errands
from receiver.server.registry import Registration
from receiver.server.runtime import Runtime
from receiver.server.upkeep import facts_of
from receiver.settings.settings import Settings
from receiver.worker.processes import Wiring


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedParts:
    """The parts of a process that a change of settings does not replace."""

    #: Has connections of its own for reads.
    inbox: Inbox
    reads: Reads
    measuring: Reads
    readiness: Readiness
    exposition: Exposition
    questions: SourceQuestions
    errands: Errands
    #: Bounds the forms that arrive at the console.
    incoming: Incoming
    #: Wakes the worker of this process when there is new work.
    wake: Callable[[], None]
    #: Wakes the feeders of this process when there is a run to plan or to step.
    feed: Callable[[], None]
    #: The warnings of `/readyz`.
    warnings: Callable[[], list[str]]

    def close(self) -> None:
        """Begin no further read and no further question, without waiting for those in progress."""
        for each in (self.reads, self.measuring, self.questions, self.errands, self.readiness):
            each.close()


def new_served(
    runtime: Runtime,
    registration: Registration,
    incoming: Incoming,
    *,
    is_busy: Callable[[], bool],
    utilisation: Callable[[], float],
    accepting: Callable[[], str | None] = lambda: None,
    wake: Callable[[], None] = lambda: None,
    feed: Callable[[], None] = lambda: None,
) -> ServedParts:
    """Make the parts that the API and the console ask. They have connections of their own.

    `is_busy` and `utilisation` are those of `ReadBudget`, and `accepting` is that of `Readiness`.
    """
    settings, database = runtime.settings, runtime.database
    read = database.beside(connections=settings.api_reads_at_once, seconds=settings.api_read_seconds)
    return ServedParts(
        inbox=Inbox(read),
        reads=_new_reads(runtime, is_busy=is_busy, utilisation=utilisation),
        measuring=Reads(at_once=1, seconds=exposition.STATEMENT_SECONDS),
        readiness=_new_readiness(runtime, accepting),
        exposition=runtime.exposition,
        questions=SourceQuestions(database, lambda: runtime.sources),
        errands=new_errands(runtime),
        incoming=incoming,
        wake=wake,
        feed=feed,
        warnings=lambda: registration.warnings,
    )


def _new_readiness(runtime: Runtime, accepting: Callable[[], str | None]) -> Readiness:
    asked = runtime.database.beside(connections=1, seconds=readiness.READINESS_STATEMENT_SECONDS)
    limit = runtime.settings.max_backlog_seconds
    return Readiness(Inbox(asked), sorted(runtime.sources), max_backlog_seconds=limit, accepting=accepting)


def _new_reads(runtime: Runtime, *, is_busy: Callable[[], bool], utilisation: Callable[[], float]) -> Reads:
    """Make the reads of a process, with a budget while webhooks are being acked: see `ReadBudget`."""
    share, waiting_cost = (SHARE_ON_POSTGRESQL, COST_OF_POSTGRESQL) if runtime.database.is_postgresql else (SHARE, 0.0)
    return Reads(
        at_once=runtime.settings.api_reads_at_once,
        seconds=runtime.settings.api_read_seconds,
        budget=ReadBudget(is_busy=is_busy, utilisation=utilisation, share=share),
        waiting_cost=waiting_cost,
    )


def new_api(served: ServedParts, settings: Settings, sources: Mapping[str, Source]) -> Api:
    """Make the API from these settings. Raises `ConfigurationError` for unusable settings."""
    parts = ApiParts(
        inbox=served.inbox,
        sources=sorted(sources),
        cursors=Cursors(settings.secret_keys),
        page_bytes=settings.api_page_bytes,
        facts=facts_of(settings, sources),
        wake=served.wake,
        feed=served.feed,
        wiring=Wiring.of(sources),
        probes=Probes(served.readiness, served.exposition, measuring=served.measuring, warnings=served.warnings),
        questions=served.questions,
        errands=served.errands,
        installation=_installation(served, settings, sources),
        session_idle=timedelta(minutes=settings.console_idle_minutes),
        explain=explainer(sources, RetrySchedule(attempts=settings.max_attempts)),
        reconciles=lambda now: statuses(served.inbox.database, sources, now=now),
    )
    return Api(Tokens(settings.secret_keys), served.reads, parts.resources())


def _installation(served: ServedParts, settings: Settings, sources: Mapping[str, Source]) -> InstallationFacts:
    def checks() -> list[CheckShown]:
        found = examine_running(settings, sources, served.inbox.database)
        return [CheckShown(each.subject, each.verdict, each.says) for each in found]

    hours = settings.refused_retention_hours if settings.keep_refused else 0
    kept = (
        ("bodies", float(settings.body_retention_days)),
        ("deliveries", float(settings.dedup_retention_days)),
        ("refused requests", hours / 24),
        ("tallies by the minute", tallies.MINUTES_KEPT / timedelta(days=1)),
        ("tallies by the hour", tallies.HOURS_KEPT / timedelta(days=1)),
        ("closed findings", record.KEPT / timedelta(days=1)),
    )
    return InstallationFacts(checks, kept)
