"""The console as a process of its own: it serves pages, health and metrics, but no endpoint and no API.

People who browse take no time from the acks of other processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from receiver.api import exposition, readiness
from receiver.api.ask import SourceQuestions
from receiver.api.readiness import Readiness
from receiver.api.reads import Reads
from receiver.api.routes import answer_database_error, answer_refused, http_errors
from receiver.errors import Refused
from receiver.inbox.inbox import Inbox
from receiver.ingest.connections import Connections
from receiver.ingest.endpoint import Receive, Send, inner_path
from receiver.ingest.incoming import Incoming
from receiver.server.api_parts import ServedParts, new_api
from receiver.server.console import is_for_console, new_console
from receiver.server.runtime import Runtime

#: The other paths that the process serves.
PROBES = ("/healthz", "/readyz", "/metrics")


class ConsoleApp:
    """The ASGI application of a console process."""

    def __init__(self, runtime: Runtime) -> None:
        settings, sources = runtime.settings, runtime.sources
        self._runtime = runtime
        self._loop: asyncio.AbstractEventLoop | None = None
        asked = runtime.database.beside(connections=1, seconds=readiness.READINESS_STATEMENT_SECONDS)
        at_once, seconds = settings.api_reads_at_once, settings.api_read_seconds
        self._served = ServedParts(
            inbox=Inbox(runtime.database.beside(connections=at_once, seconds=seconds)),
            # This process acks no webhooks, so reads need no budget.
            reads=Reads(at_once=at_once, seconds=seconds),
            measuring=Reads(at_once=1, seconds=exposition.STATEMENT_SECONDS),
            readiness=Readiness(Inbox(asked), sorted(sources), max_backlog_seconds=settings.max_backlog_seconds),
            exposition=runtime.exposition,
            questions=SourceQuestions(runtime.database, lambda: runtime.sources),
        )
        #: For the server's protocol, which bounds the connections of strangers.
        self.connections = Connections(settings, Incoming(settings))
        api = new_api(self._served, settings, sources)
        self._console = new_console(settings, api, self._served)
        handlers: dict[Any, Any] = {
            Refused: answer_refused,
            HTTPException: http_errors(),
            SQLAlchemyError: answer_database_error,
        }
        routes = [route for route in api.routes() if getattr(route, "path", "") in PROBES]
        self._rest = Starlette(routes=routes, lifespan=self.lifespan, exception_handlers=handlers)
        self._rest.router.redirect_slashes = False

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and is_for_console(inner_path(scope)):
            await self._console(scope, receive, send)  # type: ignore[arg-type]
        else:
            await self._rest(scope, receive, send)  # type: ignore[arg-type]

    def end_streams(self) -> None:
        """End the streams of the console, because the process stops. Safe to call from any thread."""
        if self._loop is not None:
            # The loop has ended, and its streams with it.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._console.live.end)

    @asynccontextmanager
    async def lifespan(self, _: object = None) -> AsyncIterator[None]:
        """Run the application's threads from start to stop."""
        self._loop = asyncio.get_running_loop()
        yield
        served = self._served
        for each in (served.reads, served.measuring, served.questions, served.readiness):
            each.close()
        self._runtime.database.close()
