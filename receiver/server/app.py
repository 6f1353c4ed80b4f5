"""Composition: settings in, one ASGI application out."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from receiver.api import exposition, readiness
from receiver.api.ask import SourceQuestions
from receiver.api.exposition import Exposition
from receiver.api.read_budget import ReadBudget
from receiver.api.readiness import Readiness
from receiver.api.reads import Reads
from receiver.api.resources import ApiParts
from receiver.api.routes import Api, answer_database_error, answer_http_error, answer_refused
from receiver.api.tokens import Tokens
from receiver.database.database import Database
from receiver.database.errors import explain
from receiver.database.schema import Schema
from receiver.dialects.sources import Source, build_sources, find_dialects
from receiver.errors import ConfigurationError, HookmirrorError, Refused
from receiver.findings.gathering import Facts
from receiver.inbox.inbox import Inbox
from receiver.inbox.retries import RetrySchedule
from receiver.ingest.connections import Connections
from receiver.ingest.endpoint import Endpoint, Receive, Send, inner_path
from receiver.ingest.group_commit import GroupCommit
from receiver.ingest.incoming import Incoming
from receiver.ingest.keeping import Keeper
from receiver.ingest.paths import HOOKS_PATH, is_meant_for_hooks
from receiver.logs import logs
from receiver.metrics import sharing
from receiver.mirror.rows import mirror_tables
from receiver.provenance.why import explainer
from receiver.reconcile.schedule import ReconcileThread, statuses
from receiver.runs.feeder import Feeder, FeederThread
from receiver.runs.runs import Verbs
from receiver.search.cursors import Cursors
from receiver.server.feeder import new_feeder
from receiver.server.interpreter import tune_interpreter
from receiver.server.registry import Registration
from receiver.server.renewal import Reloader, Renewal, Requests, read_anew
from receiver.server.upkeep import bounds_of, facts_of, retention_of, watch
from receiver.settings.environment import CONFIG_VARIABLE
from receiver.settings.settings import Settings, load, settings_folder
from receiver.worker.processes import Kind, Wiring
from receiver.worker.thread import WorkerThread
from receiver.worker.worker import Worker

log = structlog.get_logger(__name__)

#: Seconds within which the event loop takes new settings, at a moment between two requests.
TAKING = 10.0

#: What uvicorn and gunicorn take as: another process of this application would not start either.
EXIT_CANNOT_START = 3


class Runtime:
    """What the settings describe: the sources, the database, and what works on them."""

    def __init__(self, settings: Settings, *, beside: Path | None = None) -> None:
        """Raises `ConfigurationError` for whatever would fail later. `beside` is where the settings file lies."""
        self.settings = settings
        self.dialects = find_dialects(settings.dialects, beside=beside)
        self.sources: Mapping[str, Source] = build_sources(settings, self.dialects)
        self.database = Database(settings.database_url, setting=settings.place_of("database_url"))
        self.schema = Schema(self.database)
        self.inbox = Inbox(self.database)
        measured = self.database.beside(connections=1, seconds=exposition.STATEMENT_SECONDS)
        #: What Prometheus is told, over a connection of its own.
        self.exposition = Exposition(Inbox(measured), sorted(self.sources))
        self._derive()

    def adopt(self, renewal: Renewal) -> None:
        """Be what these settings describe from now on. Who was given something of it before keeps that."""
        self.settings, self.sources = renewal.settings, renewal.sources
        logs.configure(self.settings.log_level, self.settings.log_format)
        self.exposition.renew(sorted(self.sources))
        self._derive()

    def read_anew(self) -> Renewal:
        """What the settings say now, against what is in force. Raises `ConfigurationError`."""
        return read_anew(self.settings, self.sources, self.dialects)

    def _derive(self) -> None:
        self.retention = retention_of(self.settings)

    def prepare(self) -> None:
        """Make the database ready. Raises `ConfigurationError` saying what is wrong with it."""
        try:
            # Of a file that has become doubtful since it was prepared before, nothing may be written now.
            if self.database.is_sound:
                self.schema.prepare()
            self.database.look_after()
        except SQLAlchemyError as error:
            told = explain(error, self.settings.database_url, setting=self.database.setting)
            raise ConfigurationError(told) from error

    def worker(self, requests_wait: Callable[[], bool] = lambda: False) -> Worker:
        """`requests_wait` as `Worker` has it."""
        return Worker(
            self.inbox,
            self.sources,
            batch_size=self.settings.batch_size,
            max_batch_bytes=self.settings.max_batch_bytes,
            lease=self.settings.lease,
            retries=RetrySchedule(attempts=self.settings.max_attempts),
            retention=self.retention,
            requests_wait=requests_wait,
        )

    def reconciling(self) -> ReconcileThread:
        """What reconciles the sources by their schedules, those of later settings too."""
        return ReconcileThread(self.inbox, lambda: self.sources)

    def facts(self) -> Facts:
        """What the rules are told of the settings in force."""
        return facts_of(self.settings, self.sources)

    @property
    def runs(self) -> Verbs:
        """The verbs of runs, with the wiring in force."""
        return Verbs(self.database, Wiring.of(self.sources))

    def feeder(self, claims_of: Callable[[], Collection[str]] = lambda: (), *, forecasts: bool = True) -> Feeder:
        """Steps runs beside a worker, which says what it claims deliveries of at the moment."""
        return new_feeder(
            self.inbox, self.sources, self.settings, self.retention, claims_of=claims_of, forecasts=forecasts
        )

    def registration(self, kind: Kind) -> Registration:
        return Registration(self.database, self.schema, self.sources, kind=kind)


class App:
    """The ASGI application: webhooks go to the endpoint, everything else to Starlette."""

    def __init__(self, runtime: Runtime, *, with_worker: bool = True, requests: Requests | None = None) -> None:
        """`requests` ask for new settings; without it there are none until the next start."""
        settings = runtime.settings
        self._runtime = runtime
        kind = Kind.BOTH if with_worker else Kind.ENDPOINT
        self._registration = runtime.registration(kind)
        self._watch = watch(runtime.database, self._registration.name, kind, runtime.facts)
        # Over a connection of its own, so that nobody else's statement keeps an ack waiting for one.
        self._group_commit = GroupCommit(Inbox(runtime.database.beside(connections=1)), accepted=self._wake)
        new_worker = partial(runtime.worker, self._group_commit.is_busy)
        self._worker = WorkerThread(new_worker, runtime.database) if with_worker else None
        self._reconciling = runtime.reconciling() if with_worker else None
        self._keeper = Keeper(
            Inbox(runtime.database.beside(connections=1)), runtime.sources, bounds_of(settings), accepted=self._wake
        )
        self._feeder = None if self._worker is None else FeederThread(partial(runtime.feeder, self._worker.claims_of))
        incoming = Incoming(settings)
        #: For a server whose protocol is ours; others keep bounds of their own.
        self.connections = Connections(settings, incoming)
        self.endpoint = Endpoint(
            runtime.sources,
            self._group_commit.accept,
            limits=settings,
            incoming=incoming,
            keep=self._keeper.offer,
        )
        at_once, seconds = settings.api_reads_at_once, settings.api_read_seconds
        self._read_inbox = Inbox(runtime.database.beside(connections=at_once, seconds=seconds))
        self._reads = Reads(at_once=at_once, seconds=seconds, budget=ReadBudget(is_busy=self._group_commit.is_busy))
        self._measuring = Reads(at_once=1, seconds=exposition.STATEMENT_SECONDS)
        self._questions = SourceQuestions(runtime.database, lambda: runtime.sources)
        self._readiness = self._new_readiness()
        self._rest = self._api(settings, runtime.sources, lifespan=self.lifespan)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reloader = None if requests is None else self._make_reloader(requests)

    def _new_readiness(self) -> Readiness:
        runtime = self._runtime
        asked = runtime.database.beside(connections=1, seconds=readiness.READINESS_STATEMENT_SECONDS)
        limit = runtime.settings.max_backlog_seconds
        return Readiness(Inbox(asked), sorted(runtime.sources), max_backlog_seconds=limit, accepting=self._trouble)

    def _api(self, settings: Settings, sources: Mapping[str, Source], lifespan: Any = None) -> Starlette:
        """Everything but the endpoint. Raises `ConfigurationError` for settings that it cannot work with."""
        parts = ApiParts(
            inbox=self._read_inbox,
            sources=sorted(sources),
            cursors=Cursors(settings.secret_keys),
            page_bytes=settings.api_page_bytes,
            readiness=self._readiness,
            exposition=self._runtime.exposition,
            measuring=self._measuring,
            facts=facts_of(settings, sources),
            wake=self._wake,
            wiring=Wiring.of(sources),
            warnings=lambda: self._registration.warnings,
            questions=self._questions,
            explain=explainer(sources, RetrySchedule(attempts=settings.max_attempts)),
            reconciles=lambda now: statuses(self._read_inbox.database, sources, now=now),
        )
        api = Api(Tokens(settings.secret_keys), self._reads, parts.resources())
        rest = Starlette(
            routes=api.routes(),
            lifespan=lifespan,
            exception_handlers={
                Refused: answer_refused,
                HTTPException: answer_http_error,
                SQLAlchemyError: answer_database_error,
            },
        )
        # Else a path with a slash too many would be answered with a redirect to whatever host the request names.
        rest.router.redirect_slashes = False
        return rest

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _is_for_hooks(inner_path(scope)):
            await self.endpoint(scope, receive, send)
        else:
            await self._rest(scope, receive, send)  # type: ignore[arg-type]

    @asynccontextmanager
    async def lifespan(self, _: object = None) -> AsyncIterator[None]:
        """Everything behind the application, from start to stop: for an outer application that mounts this one."""
        self._runtime.prepare()
        self._loop = asyncio.get_running_loop()
        working = (self._worker, self._feeder, self._reconciling)
        parts = (self._registration, self._watch, *working, self._keeper, self._group_commit, self._reloader)
        started = [part for part in parts if part is not None]
        for part in started:
            part.start()
        yield
        for part in reversed(started):
            part.stop()
        for each in (self._reads, self._measuring, self._questions, self._readiness):
            each.close()
        self._runtime.database.close()

    def _trouble(self) -> str | None:
        """What keeps deliveries from being stored; a failure counts until something was written since."""
        return self._group_commit.trouble(since=self._registration.wrote_at)

    def _make_reloader(self, requests: Requests) -> Reloader:
        runtime, note = self._runtime, self._registration.note_settings
        return Reloader(requests, read=runtime.read_anew, adopt=self._adopt, note=note)

    def _adopt(self, renewal: Renewal) -> None:
        """Put new settings in force, between two requests. Raises `ConfigurationError` if the process is ending."""
        assert self._loop is not None
        done: Future[None] = Future()

        def adopt() -> None:
            if not done.set_running_or_notify_cancel():
                # Told as refused already: what is refused must not come into force later.
                return
            try:
                self._renew(renewal)
                done.set_result(None)
            except Exception as error:
                done.set_exception(error)

        try:
            self._loop.call_soon_threadsafe(adopt)
            done.result(TAKING)
        except (RuntimeError, TimeoutError):
            if done.cancel():
                raise ConfigurationError("This process is ending, or too busy to take any.") from None
            done.result()

    def _renew(self, renewal: Renewal) -> None:
        # First what may raise: settings come into force as a whole or not at all.
        rest = self._api(renewal.settings, renewal.sources)
        self._runtime.adopt(renewal)
        self._readiness.renew(sorted(renewal.sources), max_backlog_seconds=renewal.settings.max_backlog_seconds)
        self._rest = rest
        self.endpoint.renew(renewal.sources, renewal.settings)
        self._keeper.renew(renewal.sources, bounds_of(renewal.settings))
        self._registration.renew(renewal.sources)
        if self._worker is not None:
            self._worker.renew()
        if self._feeder is not None:
            self._feeder.renew()

    def _wake(self) -> None:
        if self._worker is not None:
            self._worker.wake()


def _is_for_hooks(path: str) -> bool:
    return path.startswith(HOOKS_PATH) or is_meant_for_hooks(path)


def install() -> Runtime:
    """What the settings in force describe. Raises `ConfigurationError` for whatever would fail later."""
    settings = load()
    logs.configure(settings.log_level, settings.log_format)
    if sharing.unshared() is not None:
        log.warning("the metrics of this process are its own", reason=sharing.unshared())
    if not settings.sources:
        raise ConfigurationError(
            f"No source is set, so there is nothing to listen to: name a TOML file in {CONFIG_VARIABLE} with a table "
            "[sources.<name>] for each account. docs/operations.md has an example."
        )
    for doubt in settings.doubts:
        log.warning(doubt)
    return Runtime(settings, beside=settings_folder())


def schema_of_packages() -> Schema:
    """The schema that the installed packages and the settings' dialects want. It needs neither sources nor secrets.

    Raises `ConfigurationError` for a database's URL that cannot be used, or a mirror table that cannot work.
    """
    settings = load()
    logs.configure(settings.log_level, settings.log_format)
    find_dialects(settings.dialects, beside=settings_folder())
    mirror_tables()
    return Schema(Database(settings.database_url, setting=settings.place_of("database_url")))


def create() -> App:
    """The application that the settings describe, for other servers: `uvicorn --factory receiver.server.app:create`.

    Without a worker, since these start any number of processes. What is wrong is one line, and ends the process.
    """
    try:
        runtime = install()
        runtime.prepare()
        application = App(runtime, with_worker=False)
    except HookmirrorError as error:
        sys.stderr.write(f"hookmirror: {error}\n")
        sys.exit(EXIT_CANNOT_START)
    tune_interpreter()
    return application
