"""The console as a separate process, which serves pages, health and metrics, but no endpoint and no API.

Reading its pages takes hardly any time from the acks of other processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from receiver.api import exposition, readiness
from receiver.api.ask import SourceQuestions
from receiver.api.readiness import Readiness
from receiver.api.reads import Reads
from receiver.api.routes import answer_database_error, answer_own_error, answer_refused, http_errors
from receiver.errors import Refused
from receiver.inbox.inbox import Inbox
from receiver.ingest.connections import Connections
from receiver.ingest.endpoint import Receive, Send, inner_path
from receiver.ingest.incoming import Incoming
from receiver.server.api_parts import ServedParts, new_api, new_reads
from receiver.server.arrival_watch import ArrivalWatch
from receiver.server.console import is_for_console, new_console
from receiver.server.errands import new_errands
from receiver.server.lifespan import explained, running
from receiver.server.renewal import Renewal, adopt_in
from receiver.server.runtime import Runtime
from receiver.server.signals import Requests
from receiver.worker.processes import Kind

#: The other paths that the process serves.
PROBES = ("/healthz", "/readyz", "/metrics")


class ConsoleApp:
    """The ASGI application of a console process."""

    def __init__(self, runtime: Runtime, *, requests: Requests) -> None:
        """`requests` delivers requests to reload."""
        settings, sources = runtime.settings, runtime.sources
        self._runtime = runtime
        self._loop: asyncio.AbstractEventLoop | None = None
        self._registration = runtime.registration(Kind.CONSOLE, reloads=True)
        self._reloader = runtime.reloader(requests, self._registration, adopt=self._adopt)
        asked = runtime.database.beside(connections=1, seconds=readiness.READINESS_STATEMENT_SECONDS)
        self._readiness = Readiness(Inbox(asked), sorted(sources), max_backlog_seconds=settings.max_backlog_seconds)
        at_once, seconds = settings.api_reads_at_once, settings.api_read_seconds
        #: For the server's protocol, which bounds the connections of strangers.
        self.connections = Connections(settings, Incoming(settings))
        # Other processes ack the webhooks, perhaps on the same cores.
        self._watch = ArrivalWatch(runtime.database)
        self._served = ServedParts(
            inbox=Inbox(runtime.database.beside(connections=at_once, seconds=seconds)),
            reads=new_reads(runtime, is_busy=self._watch.is_busy, utilisation=self._watch.utilisation),
            measuring=Reads(at_once=1, seconds=exposition.STATEMENT_SECONDS),
            readiness=self._readiness,
            exposition=runtime.exposition,
            questions=SourceQuestions(runtime.database, lambda: runtime.sources),
            errands=new_errands(runtime),
            incoming=self.connections.incoming,
            warnings=lambda: self._registration.warnings,
        )
        api = new_api(self._served, settings, sources)
        self._console = new_console(settings, api, self._served)
        handlers: dict[Any, Any] = {
            Refused: answer_refused,
            HTTPException: http_errors(),
            SQLAlchemyError: answer_database_error,
            Exception: answer_own_error,
        }
        routes = [route for route in api.routes() if getattr(route, "path", "") in PROBES]
        self._rest = Starlette(routes=routes, lifespan=self.lifespan, exception_handlers=handlers)
        self._rest.router.redirect_slashes = False

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and is_for_console(inner_path(scope)):
            await self._console(scope, receive, send)  # type: ignore[arg-type]
        else:
            sending = explained(send) if scope["type"] == "lifespan" else send
            await self._rest(scope, receive, sending)  # type: ignore[arg-type]

    def note_url(self, url: str, root_path: str) -> None:
        """Record the URL at which the console is served, for links to it."""
        self._registration.console_url = f"{url}{root_path}"

    def end_streams(self) -> None:
        """End the streams of the console, because the process stops. Safe to call from any thread."""
        if self._loop is not None:
            # The loop has ended, and its streams with it.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._console.live.end)

    def _adopt(self, renewal: Renewal) -> None:
        """Put new settings in force, between two requests. Raises `ConfigurationError` if the process is ending."""
        assert self._loop is not None
        adopt_in(self._loop, lambda: self._renew(renewal))

    def _renew(self, renewal: Renewal) -> None:
        settings, sources = renewal.settings, renewal.sources
        # The steps that may raise come first, so that settings come into force as a whole or not at all.
        console = new_console(settings, new_api(self._served, settings, sources), self._served)
        self._runtime.adopt(renewal)
        self._readiness.renew(sorted(sources), max_backlog_seconds=settings.max_backlog_seconds)
        # Open pages reconnect, and reach the console of the new settings.
        self._console.live.end()
        self._console = console
        self._registration.renew(sources)

    @asynccontextmanager
    async def lifespan(self, _: object = None) -> AsyncIterator[None]:
        """Run the application's threads from start to stop."""
        self._loop = asyncio.get_running_loop()
        # Also after a start that fails.
        parts = (self._registration, self._reloader, self._watch)
        with closing(self._runtime), closing(self._served), running(parts):
            yield
