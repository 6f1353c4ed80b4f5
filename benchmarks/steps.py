"""A server that answers after one of the steps of an ack. The difference between two of them is the cost of a step.

It is made of Hookmirror's own parts: `python -m benchmarks.steps STOP PORT`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import uvicorn
from sqlalchemy import event

from receiver.database.database import Database
from receiver.inbox.arrival import Accepted, Arrival
from receiver.inbox.inbox import Inbox
from receiver.ingest.admission import admit, webhook_request
from receiver.ingest.connections import Connections
from receiver.ingest.endpoint import Endpoint
from receiver.ingest.fast_path import FastPathProtocol
from receiver.ingest.group_commit import GroupCommit, Submitted
from receiver.ingest.incoming import Incoming
from receiver.server.interpreter import tune_interpreter
from receiver.server.runtime import Runtime, install

#: The stops in the order of an ack.
STOPS = (PARSE, VERIFY, ENVELOPE, BATCH, UNSYNCED, STORE) = (
    "parse",
    "verify",
    "envelope",
    "batch",
    "store without syncs",
    "store",
)

ANSWER = Accepted("accepted", 1)


class _Forgetting:
    """A store that keeps nothing."""

    def prepare(self, batch: Sequence[Arrival]) -> None:
        pass

    def accept(self, batch: Sequence[Arrival], /) -> list[Accepted]:
        return [ANSWER] * len(batch)


class Application:
    """The endpoint alone."""

    def __init__(self, runtime: Runtime, stop: str) -> None:
        limits = runtime.settings
        incoming = Incoming(limits)
        self.connections = Connections(limits, incoming)
        take = {PARSE: _answer, VERIFY: _verify, ENVELOPE: _admit}.get(stop)
        if take is None:
            store = _Forgetting() if stop == BATCH else Inbox(_opened(runtime, synced=stop == STORE))
            commit = GroupCommit(store, prepare=store.prepare)
            commit.start()
            take = commit.take
        self.endpoint = Endpoint(runtime.sources, take, limits=limits, incoming=incoming)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.endpoint(scope, receive, send)


def _answer(submitted: Sequence[Submitted]) -> None:
    for _, answer in submitted:
        answer.set_result(ANSWER)


def _verify(submitted: Sequence[Submitted]) -> None:
    now = datetime.now(UTC)
    for request, _ in submitted:
        request.source.dialect.verifier.verify(webhook_request(request, at=now), request.source.credentials)
    _answer(submitted)


def _admit(submitted: Sequence[Submitted]) -> None:
    admit([request for request, _ in submitted])
    _answer(submitted)


def _opened(runtime: Runtime, *, synced: bool) -> Database:
    runtime.prepare()
    database = runtime.database.beside(connections=1)
    if not synced:
        unsynced = "SET synchronous_commit = off" if database.is_postgresql else "PRAGMA synchronous = OFF"

        @event.listens_for(database.engine, "connect")
        def connected(connection: Any, _: Any) -> None:
            connection.execute(unsynced)
            if database.is_postgresql:
                connection.commit()

    return database


def main(stop: str, port: int) -> None:
    application = Application(install(), stop)
    config = uvicorn.Config(
        application,
        http=FastPathProtocol,
        port=port,
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        lifespan="off",
    )
    tune_interpreter()
    uvicorn.Server(config).run()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
