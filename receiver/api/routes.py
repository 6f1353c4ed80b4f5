"""The HTTP API: what came in, what it became, how things stand. JSON, read with a token (`hookmirror token`)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import structlog
from sqlalchemy import Select
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from receiver.api import parameters, queries
from receiver.api.exposition import MEDIA_TYPE, Exposition, unknown
from receiver.api.openapi import describe
from receiver.api.readiness import Readiness
from receiver.api.reads import Reads
from receiver.api.tokens import Scope, Tokens
from receiver.codec import encode, storable
from receiver.database.database import Database
from receiver.database.pages import LARGEST_PAGE, Page, read_page
from receiver.errors import (
    BadRequest,
    BodyExpired,
    NotAuthorized,
    NotEnded,
    NotFound,
    Refused,
    Unavailable,
)
from receiver.inbox.inbox import Inbox
from receiver.inbox.tables import State
from receiver.logs.repeats import Repeats
from receiver.metrics import metrics
from receiver.mirror import changes
from receiver.mirror.rows import MirrorRow, mirror_tables, sql_table
from receiver.search import deliveries, rows
from receiver.search.filters import DeliveryFilter
from receiver.search.statistics import Statistics

Answer = Callable[[Request], Response]

log = Repeats(structlog.get_logger(__name__))


class Address(Route):
    """A route that takes line ends in a parameter for what they are, and none behind its own end."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        # Starlette's patterns let `.` stop at a line end, and `$` stand before one: "A\nB" has no row, "A\n" has A's.
        self.path_regex = re.compile(self.path_regex.pattern.removesuffix("$") + r"\Z", re.DOTALL)


class Api:
    """The routes, over one inbox and its mirror."""

    def __init__(
        self,
        inbox: Inbox,
        tokens: Tokens,
        *,
        sources: list[str],
        reads: Reads,
        page_bytes: int,
        readiness: Readiness,
        exposition: Exposition,
        measuring: Reads,
        wake: Callable[[], None],
        warnings: Callable[[], list[str]] = list,
    ) -> None:
        """`inbox` is one with connections of its own, as many as may read at once, whose statements end in time.

        `wake` is called when there is new work for the worker of this process; `warnings` are for `/readyz`.
        """
        self._inbox = inbox
        self._database: Database = inbox.database
        self._tokens = tokens
        self._statistics = Statistics(self._database, sources)
        self._reads = reads
        self._page_bytes = page_bytes
        self._readiness = readiness
        self._exposition = exposition
        self._measuring = measuring
        self._wake = wake
        self._warnings = warnings
        self._tables: Mapping[str, type[MirrorRow]] = {str(sql_table(table).name): table for table in mirror_tables()}

    def routes(self) -> list[BaseRoute]:
        read, operate = Scope.READ, Scope.OPERATE
        return [
            Address("/healthz", self.healthz),
            Address("/readyz", self.readyz),
            Address("/metrics", self.metrics),
            Address("/openapi.json", self.openapi),
            Address("/api/v1/deliveries", self._guard(read, self.list_deliveries)),
            Address("/api/v1/deliveries/{id}", self._guard(read, self.show_delivery)),
            Address("/api/v1/deliveries/{id}/replay", self._guard(operate, self.replay_delivery), methods=["POST"]),
            Address("/api/v1/catalog", self._guard(read, self.list_tables, reads=False)),
            Address("/api/v1/catalog/{table}", self._guard(read, self.list_rows)),
            Address("/api/v1/catalog/{table}/{source}/{external_id:path}", self._guard(read, self.show_row)),
            Address("/api/v1/changes", self._guard(read, self.list_changes)),
            Address("/api/v1/stats", self._guard(read, self.show_stats)),
        ]

    # ── open to everybody ─────────────────────────────────────────────────────────────────────────────────────

    async def healthz(self, _: Request) -> Response:
        return _json({"status": "alive"})

    async def readyz(self, _: Request) -> Response:
        """200 if deliveries can be stored and the oldest due one is young enough, else 503 with the reason.

        Warnings are what should not stay as it is, and loses nothing meanwhile.
        """
        reason = await self._readiness.reason()
        if reason is not None:
            return _json({"status": "not ready", "reason": reason}, 503)
        return _json({"status": "ready", "warnings": self._warnings()})

    async def metrics(self, _: Request) -> Response:
        """All metrics; those of the database as they were, if it does not answer in time."""
        try:
            await self._measuring.run(self._exposition.measure)
        except Unavailable:
            unknown()
        return Response(await run_in_threadpool(metrics.text), media_type=MEDIA_TYPE)

    def openapi(self, _: Request) -> Response:
        return Response(self._openapi, media_type="application/json")

    @cached_property
    def _openapi(self) -> bytes:
        """Made when somebody first asks: it stays the same as long as the process runs."""
        return encode(describe(self._tables))

    # ── deliveries ────────────────────────────────────────────────────────────────────────────────────────────

    def list_deliveries(self, request: Request) -> Response:
        asked = parameters.read(request, "source", "state", "event_type", "entity", "cursor", "limit")
        wanted = DeliveryFilter(
            source=self._source(asked.get("source")),
            state=parameters.one_of(State, "state", asked.get("state")),
            event_type=asked.get("event_type"),
            entity=asked.get("entity"),
        )
        before = parameters.number("cursor", asked.get("cursor"), None)
        limit = parameters.limit(asked)
        page = self._page(
            deliveries.select_deliveries(wanted, before=before, limit=limit), queries.show_delivery, limit
        )
        following = str(page.last["id"]) if page.last and page.more else None
        return _json({"items": page.items, "next": following})

    def show_delivery(self, request: Request) -> Response:
        parameters.read(request)
        delivery_id = parameters.delivery_id(request)
        found = deliveries.delivery(self._database, delivery_id)
        if found is None:
            raise NotFound(f"There is no delivery {delivery_id}.")
        return _json(queries.show_whole_delivery(found))

    def replay_delivery(self, request: Request) -> Response:
        """202 when it is pending again; 409 while it is not done."""
        parameters.read(request)
        delivery_id = parameters.delivery_id(request)
        if self._inbox.replay([delivery_id], now=_now()):
            self._wake()
            return _json({"status": "pending", "delivery": str(delivery_id)}, 202)
        found = deliveries.delivery(self._database, delivery_id)
        if found is None:
            raise NotFound(f"There is no delivery {delivery_id}.")
        if found.row["body"] is None:
            raise BodyExpired("Its body has expired: reconcile the source instead.")
        raise NotEnded("This delivery is still being worked on: wait for its end.")

    # ── the mirror ────────────────────────────────────────────────────────────────────────────────────────────

    def list_tables(self, request: Request) -> Response:
        parameters.read(request)
        return _json({"tables": list(self._tables)})

    def list_rows(self, request: Request) -> Response:
        table = self._table(request)
        asked = parameters.read(request, "source", "active", "cursor", "limit")
        limit = parameters.limit(asked)
        wanted = rows.select_rows(
            table,
            source=self._source(asked.get("source")),
            active=parameters.flag("active", asked.get("active")),
            behind=parameters.key_cursor(asked.get("cursor")),
        )
        page = self._page(wanted, queries.show_row, limit)
        last = page.last if page.more else None
        following = parameters.write_key_cursor(last["source"], last["external_id"]) if last else None
        return _json({"items": page.items, "next": following})

    def show_row(self, request: Request) -> Response:
        table = self._table(request)
        parameters.read(request)
        source, external_id = storable(request.path_params["source"]), storable(request.path_params["external_id"])
        found = rows.row(self._database, table, source, external_id)
        if found is None:
            raise NotFound(f"No row {external_id[:64]!r} of {source[:64]!r} was ever heard of.")
        history = self._page(changes.about(sql_table(table).name, source, external_id), _show_change, LARGEST_PAGE)
        return _json({"row": queries.show_row(found), "history": history.items})

    def list_changes(self, request: Request) -> Response:
        """The change feed behind `after`, in commit order; `next` is the value for the next `after`."""
        asked = parameters.read(request, "after", "limit")
        after = parameters.number("after", asked.get("after"), 0) or 0
        page = self._page(changes.behind(after), _show_change, parameters.limit(asked))
        return _json({"items": page.items, "next": page.last["seq"] if page.last else after})

    def show_stats(self, request: Request) -> Response:
        parameters.read(request)
        return _json({"sources": self._statistics.per_source(now=_now())})

    def _page(self, statement: Select[Any], show: Callable[[Any], Any], limit: int) -> Page:
        return read_page(self._database, statement, show, limit=limit, most_bytes=self._page_bytes)

    def _source(self, name: str | None) -> str | None:
        """A source of the settings, or one that has left them and of which something is stored."""
        if name is None or name in self._statistics.sources or deliveries.is_source(self._database, name):
            return name
        known = ", ".join(self._statistics.sources) or "the settings, which name none"
        raise BadRequest(f"There is no source {name[:64]!r}, nor was there: `source` takes one of {known}.")

    def _table(self, request: Request) -> type[MirrorRow]:
        name = request.path_params["table"]
        if name not in self._tables:
            raise NotFound(f"There is no table {name[:64]!r}: choose one of {', '.join(sorted(self._tables))}.")
        return self._tables[name]

    def _guard(self, scope: Scope, answer: Answer, *, reads: bool = True) -> Callable[[Request], Awaitable[Response]]:
        """For whoever has a token; if it reads the database, when it is their turn."""

        async def guarded(request: Request) -> Response:
            self._tokens.check(request.headers.get("authorization"), scope, now=_now())
            return await self._reads.run(lambda: answer(request)) if reads else answer(request)

        return guarded


def answer_refused(_: Request, error: Exception) -> Response:
    """An error of ours, in the shape of the contract."""
    assert isinstance(error, Refused)
    headers = {}
    if isinstance(error, NotAuthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(error.retry_after)
    return _json({"error": error.code, "message": error.message}, error.status, headers)


def answer_http_error(request: Request, error: Exception) -> Response:
    """What routing refuses, in the same shape. A POST to no address of ours may be a webhook whose URL is wrong."""
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "refused")
    if request.method == "POST":
        metrics.REFUSED.labels("", code).inc()
        log.warning("refused what may be a webhook with a wrong address", about={"code": code}, path=request.url.path)
    message = {404: "There is nothing here: see docs/api.md.", 405: "This method is not for this path."}
    body = {"error": code, "message": message.get(error.status_code, error.detail)}
    return _json(body, error.status_code, dict(error.headers or {}))


def answer_database_error(request: Request, _: Exception) -> Response:
    return answer_refused(request, Unavailable("The database does not answer. Try again later."))


def _json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(encode(content), status, headers, "application/json")


def _show_change(row: Any) -> dict[str, Any]:
    delivery = row["delivery_id"]
    return {**row, "delivery_id": str(delivery) if delivery is not None else None}


def _now() -> datetime:
    return datetime.now(UTC)
