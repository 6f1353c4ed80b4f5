"""Composition: makes one ASGI application from the settings."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from typing import Any, NamedTuple

import structlog
from starlette.applications import Starlette

from receiver.api.routes import error_answers
from receiver.console.site import Console
from receiver.dialects.sources import Source, begin_fetching
from receiver.errors import HookmirrorError
from receiver.inbox.inbox import Inbox
from receiver.ingest.connections import Connections
from receiver.ingest.endpoint import Endpoint, Receive, Send, inner_path
from receiver.ingest.group_commit import LOCK_TIMEOUT, GroupCommit
from receiver.ingest.incoming import Incoming
from receiver.ingest.keeping import Keeper
from receiver.ingest.paths import HOOKS_PATH, is_for_console, is_meant_for_hooks
from receiver.runs.feeder import FeederThread
from receiver.runs.refused import by_settings
from receiver.server.acceptor_process import AcceptorProcess
from receiver.server.api_parts import ServedParts, new_api, new_served
from receiver.server.console import new_console
from receiver.server.interpreter import tune_interpreter
from receiver.server.lifespan import EXIT_CANNOT_START, explained, running
from receiver.server.renewal import Renewal, adopt_in
from receiver.server.runtime import Runtime, install
from receiver.server.signals import Requests
from receiver.server.upkeep import bounds_of, watch
from receiver.settings.settings import Settings
from receiver.worker.processes import Kind
from receiver.worker.thread import WorkerThread

log = structlog.get_logger(__name__)


class Rest(NamedTuple):
    """The applications beside the endpoint: the API and the console."""

    api: Starlette
    #: None if the console is switched off.
    console: Console | None


class App:
    """The ASGI application: webhooks go to the endpoint, everything else to Starlette."""

    def __init__(self, runtime: Runtime, *, with_worker: bool = True, requests: Requests | None = None) -> None:
        """`requests` delivers requests to reload; without it the process cannot reload."""
        settings = runtime.settings
        self._runtime = runtime
        kind = Kind.BOTH if with_worker else Kind.ENDPOINT
        self._registration = runtime.registration(kind, reloads=requests is not None)
        self._watch = watch(runtime.database, self._registration.name, kind, runtime.facts)
        self._keeper = Keeper(
            Inbox(runtime.database.beside(connections=1)),
            runtime.sources,
            bounds_of(settings),
            accepted=self._wake,
            along=by_settings,
        )
        self._accepting = self._new_accepting()
        new_worker = partial(runtime.worker, self._accepting.is_busy)
        self._worker = WorkerThread(new_worker, runtime.database) if with_worker else None
        scheduled = partial(runtime.reconciler, with_schedule=True)
        self._reconciler = FeederThread(scheduled, name="reconciler") if with_worker else None
        self._feeder = None if self._worker is None else FeederThread(partial(runtime.feeder, self._worker.claims_of))
        incoming = Incoming(settings)
        #: For a server with our protocol. Other servers have bounds of their own.
        self.connections = Connections(settings, incoming)
        self.endpoint = Endpoint(
            runtime.sources,
            self._accepting.take,
            limits=settings,
            incoming=incoming,
            hand_in_at=self._accepting.hand_in_at,
        )
        self._served = self._new_served()
        self._rest = self._api(settings, runtime.sources, lifespan=self.lifespan)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reloader = None if requests is None else runtime.reloader(requests, self._registration, adopt=self._adopt)

    def _new_accepting(self) -> GroupCommit | AcceptorProcess:
        runtime, keep = self._runtime, self._keeper.offer
        if runtime.settings.acceptor_process:
            return AcceptorProcess(runtime.settings, beside=runtime.folder_now, keep=keep, accepted=self._wake)
        # The endpoint has a connection of its own, so that an ack never waits for another part's statement.
        own = runtime.database.beside(connections=1, lock_seconds=LOCK_TIMEOUT)
        inbox, end_hanging = Inbox(own), own.new_ending()
        return GroupCommit(inbox, accepted=self._wake, keep=keep, prepare=inbox.prepare, end_hanging=end_hanging)

    def _new_served(self) -> ServedParts:
        return new_served(
            self._runtime,
            self._registration,
            self.connections.incoming,
            is_busy=self._accepting.is_busy,
            utilisation=self.endpoint.waiting.utilisation.share,
            accepting=self._trouble,
            wake=self._wake,
            feed=self._feed,
        )

    def _api(self, settings: Settings, sources: Mapping[str, Source], lifespan: Any = None) -> Rest:
        """Make the application without the endpoint. Raises `ConfigurationError` for unusable settings."""
        api = new_api(self._served, settings, sources)
        rest = Starlette(
            routes=api.routes(),
            lifespan=lifespan,
            exception_handlers=error_answers(self.endpoint.meant_elsewhere),
        )
        # With `redirect_slashes` a path with an extra slash would be redirected to a host that the request names.
        rest.router.redirect_slashes = False
        if not settings.console:
            return Rest(rest, None)
        return Rest(rest, new_console(settings, api, self._served))

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        path = inner_path(scope) if scope["type"] == "http" else ""
        if path and _is_for_hooks(path):
            await self.endpoint(scope, receive, send)
        elif self._rest.console is not None and is_for_console(path):
            await self._rest.console(scope, receive, send)  # type: ignore[arg-type]
        else:
            sending = explained(send) if scope["type"] == "lifespan" else send
            await self._rest.api(scope, receive, sending)  # type: ignore[arg-type]

    @asynccontextmanager
    async def lifespan(self, _: object = None) -> AsyncIterator[None]:
        """Run the application's threads from start to stop, for an outer application that mounts this one."""
        working = (self._worker, self._feeder, self._reconciler)
        parts = (self._registration, self._watch, *working, self._keeper, self._accepting, self._reloader)
        # Also after a start that fails.
        with closing(self._runtime), closing(self._served):
            self._runtime.prepare()
            self._loop = asyncio.get_running_loop()
            with running(parts):
                begin_fetching(self._runtime.sources.values())
                yield

    def _trouble(self) -> str | None:
        """The reason for which deliveries cannot be stored, or None; a failure counts until a later write succeeds."""
        return self._accepting.trouble(since=self._registration.wrote_at)

    def _adopt(self, renewal: Renewal) -> None:
        """Put new settings in force, between two requests. Raises `ConfigurationError` if the process is ending."""
        assert self._loop is not None
        with self._accepting.prepared(renewal.settings) as ready:
            adopt_in(self._loop, lambda: self._renew(renewal, ready))

    def _renew(self, renewal: Renewal, ready: Callable[[], None]) -> None:
        # The steps that may raise come first, so that settings come into force as a whole or not at all.
        rest = self._api(renewal.settings, renewal.sources)
        self._runtime.adopt(renewal)
        ready()
        self._served.readiness.renew(sorted(renewal.sources), max_backlog_seconds=renewal.settings.max_backlog_seconds)
        if self._rest.console is not None:
            # Open pages reconnect, and reach the console of the new settings.
            self._rest.console.live.end()
        self._rest = rest
        self.endpoint.renew(renewal.sources, renewal.settings)
        begin_fetching(renewal.sources.values())
        self._keeper.renew(renewal.sources, bounds_of(renewal.settings))
        self._registration.renew(renewal.sources)
        if self._worker is not None:
            self._worker.renew()
        for feeder in (self._feeder, self._reconciler):
            if feeder is not None:
                feeder.renew()

    def note_url(self, url: str, root_path: str) -> None:
        """Record the URL of this process, for commands on this machine, and the one that links to its console have.

        `root_path` is the path below which a proxy serves it.
        """
        self._registration.url = url
        if self._rest.console is not None:
            self._registration.console_url = f"{url}{root_path}"

    def end_streams(self) -> None:
        """End the streams of the console, because the process stops. Safe to call from any thread."""
        if self._rest.console is not None and self._loop is not None:
            # The loop has ended, and its streams with it.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._rest.console.live.end)

    def _wake(self) -> None:
        if self._worker is not None:
            self._worker.wake()

    def _feed(self) -> None:
        for feeder in (self._feeder, self._reconciler):
            if feeder is not None:
                feeder.wake()


def _is_for_hooks(path: str) -> bool:
    return path.startswith(HOOKS_PATH) or is_meant_for_hooks(path)


def create() -> App:
    """Make the application from the settings, for other servers: `uvicorn --factory receiver.server.app:create`.

    It has no worker, because such a server starts any number of processes. An error is printed as one line, and ends
    the process.
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
