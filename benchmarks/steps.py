"""A server that answers after one of the steps of an ack. The difference between two of them is what a step costs.

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
from receiver.ingest.admission import Request, admit, judged
from receiver.ingest.connections import Connections
from receiver.ingest.endpoint import Endpoint
from receiver.ingest.fast_path import FastPathProtocol
from receiver.ingest.group_commit import GroupCommit, PendingReply
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


class _Parsing(Endpoint):
    """Answers each request at once."""

    def submit(self, request: Request, answer: PendingReply) -> None:  # noqa: ARG002
        answer.set_result(ANSWER)


class _Verifying(Endpoint):
    """Verifies each request, and answers."""

    def _admit_and_accept(self) -> None:
        submitted, self._submitted = self._submitted, []
        now = datetime.now(UTC)
        for request, answer in submitted:
            request.source.dialect.verifier.verify(judged(request, at=now), request.source.credentials)
            answer.set_result(ANSWER)


class _Forgetting:
    """A store that keeps nothing."""

    def accept(self, batch: Sequence[Arrival], /) -> list[Accepted]:
        return [ANSWER] * len(batch)


class Application:
    """The endpoint alone."""

    def __init__(self, runtime: Runtime, stop: str) -> None:
        limits = runtime.settings
        incoming = Incoming(limits)
        self.connections = Connections(limits, incoming)
        kind = {PARSE: _Parsing, VERIFY: _Verifying}.get(stop, Endpoint)
        accept = _answer_all
        if stop in (BATCH, UNSYNCED, STORE):
            store = _Forgetting() if stop == BATCH else Inbox(_opened(runtime, synced=stop == STORE))
            commit = GroupCommit(store)
            commit.start()
            accept = commit.accept
        self.endpoint = kind(runtime.sources, accept, limits=limits, incoming=incoming, admit=admit)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.endpoint(scope, receive, send)


def _answer_all(arrivals: Sequence[tuple[Arrival, PendingReply]]) -> None:
    for _, answer in arrivals:
        answer.set_result(ANSWER)


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
