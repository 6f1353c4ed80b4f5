"""Composition: settings in, one ASGI application out."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from receiver.acceptor import Acceptor
from receiver.api import Api, answer_database_error, answer_http_error, answer_refused
from receiver.database import Database, explain
from receiver.endpoint import PREFIX, Endpoint, Receive, Send
from receiver.errors import ConfigurationError, Refused
from receiver.inbox import Inbox
from receiver.listener import Listener
from receiver.retention import Retention
from receiver.settings import Settings
from receiver.sources import Source, build_sources, find_dialects
from receiver.tokens import Tokens
from receiver.worker import Worker

#: Seconds that a worker gets to end the delivery at hand when the server stops.
STOP_PATIENCE = 20.0


class Installation:
    """What the settings describe: the sources, the database, and what works on them."""

    def __init__(self, settings: Settings, *, beside: Path | None = None) -> None:
        """Raises `ConfigurationError` for whatever would fail later. `beside` is where the settings file lies."""
        self.settings = settings
        self.dialects = find_dialects(settings.dialects, beside=beside)
        self.sources: dict[str, Source] = build_sources(settings, self.dialects)
        self.database = Database(settings.database_url)
        self.inbox = Inbox(self.database)
        self.retention = Retention(
            bodies=timedelta(days=settings.body_retention_days),
            dedup_keys=timedelta(days=settings.dedup_retention_days),
        )

    def prepare(self) -> None:
        """Make the database ready. Raises `ConfigurationError` saying what is wrong with it."""
        try:
            self.database.create_tables()
        except SQLAlchemyError as error:
            raise ConfigurationError(explain(error, self.settings.database_url)) from error

    def worker(self) -> Worker:
        return Worker(
            self.inbox,
            self.sources,
            batch_size=self.settings.batch_size,
            lease=self.settings.lease,
            retries=self.settings.retry_schedule,
            retention=self.retention,
        )


class WorkerThread:
    """A worker on a thread of its own, that hears of what is accepted elsewhere."""

    def __init__(self, installation: Installation) -> None:
        self.worker = installation.worker()
        self._thread = threading.Thread(target=self.worker.run, name="worker", daemon=True)
        postgresql = installation.database.is_postgresql
        self._listener = Listener(installation.database, self.worker.wake) if postgresql else None

    def start(self) -> None:
        self._thread.start()
        if self._listener is not None:
            self._listener.start()

    def stop(self) -> None:
        """End after the delivery at hand; after `STOP_PATIENCE` its lease is left to end by itself."""
        if self._listener is not None:
            self._listener.stop()
        self.worker.stop()
        self._thread.join(STOP_PATIENCE)


class App:
    """The ASGI application: webhooks go to the endpoint, everything else to Starlette."""

    def __init__(self, installation: Installation, *, with_worker: bool = True) -> None:
        settings = installation.settings
        self._worker = WorkerThread(installation) if with_worker else None
        self._installation = installation
        self._acceptor = Acceptor(installation.inbox, accepted=self._wake, max_waiting_bytes=settings.max_waiting_bytes)
        self._endpoint = Endpoint(
            installation.sources,
            self._acceptor.accept,
            max_body_bytes=settings.max_body_bytes,
            max_waiting_bytes=settings.max_waiting_bytes,
            body_timeout=settings.body_timeout,
        )
        api = Api(
            installation.inbox,
            Tokens(settings.secret_keys),
            sources=sorted(installation.sources),
            max_backlog_seconds=settings.max_backlog_seconds,
            wake=self._wake,
        )
        self._rest = Starlette(
            routes=api.routes(),
            lifespan=self._lifespan,
            exception_handlers={
                Refused: answer_refused,
                HTTPException: answer_http_error,
                SQLAlchemyError: answer_database_error,
            },
        )

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(PREFIX):
            await self._endpoint(scope, receive, send)
        else:
            await self._rest(scope, receive, send)  # type: ignore[arg-type]

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._installation.prepare()
        self._acceptor.start()
        if self._worker is not None:
            self._worker.start()
        yield
        self._acceptor.stop()
        if self._worker is not None:
            self._worker.stop()
        self._installation.database.close()

    def _wake(self) -> None:
        if self._worker is not None:
            self._worker.worker.wake()
