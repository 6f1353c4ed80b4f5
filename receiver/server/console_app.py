"""The console as a separate process, which serves pages, health and metrics, but no endpoint and no API.

Reading its pages takes hardly any time from the acks of other processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from typing import Any

from starlette.applications import Starlette

from receiver.api.routes import error_answers
from receiver.ingest.connections import Connections
from receiver.ingest.endpoint import Receive, Send, inner_path
from receiver.ingest.incoming import Incoming
from receiver.ingest.paths import is_for_console
from receiver.server.api_parts import new_api, new_served
from receiver.server.arrival_watch import ArrivalWatch
from receiver.server.console import new_console
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
        incoming = Incoming(settings)
        #: For the server's protocol, which bounds the connections of strangers.
        self.connections = Connections(settings, incoming)
        # Other processes ack the webhooks, perhaps on the same cores.
        self._watch = ArrivalWatch(runtime.database)
        self._served = new_served(
            runtime,
            self._registration,
            incoming,
            is_busy=self._watch.is_busy,
            utilisation=self._watch.utilisation,
        )
        api = new_api(self._served, settings, sources)
        self._console = new_console(settings, api, self._served)
        routes = [route for route in api.routes() if getattr(route, "path", "") in PROBES]
        self._rest = Starlette(routes=routes, lifespan=self.lifespan, exception_handlers=error_answers())
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
        self._served.readiness.renew(sorted(sources), max_backlog_seconds=settings.max_backlog_seconds)
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
