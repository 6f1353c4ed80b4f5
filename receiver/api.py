"""The HTTP API: what came in, what it became, how things stand. JSON, read with a token (`hookmirror token`)."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from receiver import changes, queries
from receiver.codec import decode, encode, storable
from receiver.database import Database
from receiver.deliveries import State
from receiver.errors import (
    BadRequest,
    BodyExpired,
    NotAuthorized,
    NotEnded,
    NotFound,
    Refused,
    Unavailable,
    Unreadable,
)
from receiver.exposition import MEDIA_TYPE, exposition
from receiver.inbox import Inbox
from receiver.mirror import MirrorRow, mirror_tables, sql_table
from receiver.openapi import describe
from receiver.queries import LARGEST_PAGE, USUAL_PAGE
from receiver.tokens import Scope, Tokens

Answer = Callable[[Request], Response]


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
        max_backlog_seconds: float,
        wake: Callable[[], None],
        warnings: Callable[[], list[str]] = list,
    ) -> None:
        """`wake` is called when there is new work for the worker of this process; `warnings` are for `/readyz`."""
        self._inbox = inbox
        self._database: Database = inbox.database
        self._tokens = tokens
        self._statistics = queries.Statistics(self._database, sources)
        self._max_backlog_seconds = max_backlog_seconds
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
            Address("/api/v1/catalog", self._guard(read, self.list_tables)),
            Address("/api/v1/catalog/{table}", self._guard(read, self.list_rows)),
            Address("/api/v1/catalog/{table}/{source}/{external_id:path}", self._guard(read, self.show_row)),
            Address("/api/v1/changes", self._guard(read, self.list_changes)),
            Address("/api/v1/stats", self._guard(read, self.show_stats)),
        ]

    # ── open to everybody ─────────────────────────────────────────────────────────────────────────────────────

    def healthz(self, _: Request) -> Response:
        return _json({"status": "alive"})

    def readyz(self, _: Request) -> Response:
        """200 if the database answers and the oldest due delivery is young enough, else 503 with the reason.

        Warnings are what should not stay as it is, and loses nothing meanwhile.
        """
        try:
            age = self._inbox.oldest_due_seconds(self._statistics.sources, now=_now())
        except SQLAlchemyError:
            return _json({"status": "not ready", "reason": "The database does not answer."}, 503)
        if age > self._max_backlog_seconds:
            reason = f"The oldest due delivery has waited {age:.0f} s: is a worker running, and fast enough?"
            return _json({"status": "not ready", "reason": reason}, 503)
        return _json({"status": "ready", "warnings": self._warnings()})

    def metrics(self, _: Request) -> Response:
        return Response(exposition(self._inbox, self._statistics), media_type=MEDIA_TYPE)

    def openapi(self, _: Request) -> Response:
        return Response(self._openapi, media_type="application/json")

    @cached_property
    def _openapi(self) -> bytes:
        """Made when somebody first asks: it stays the same as long as the process runs."""
        return encode(describe(self._tables))

    # ── deliveries ────────────────────────────────────────────────────────────────────────────────────────────

    def list_deliveries(self, request: Request) -> Response:
        asked = _parameters(request, "source", "state", "event_type", "entity", "cursor", "limit")
        wanted = queries.DeliveryFilter(
            source=self._source(asked.get("source")),
            state=_one_of(State, "state", asked.get("state")),
            event_type=asked.get("event_type"),
            entity=asked.get("entity"),
        )
        before = _number("cursor", asked.get("cursor"), None)
        limit = _limit(asked)
        found = queries.deliveries(self._database, wanted, before=before, limit=limit)
        following = str(found[-1]["id"]) if len(found) == limit else None
        return _json({"items": [queries.show_delivery(row) for row in found], "next": following})

    def show_delivery(self, request: Request) -> Response:
        _parameters(request)
        delivery_id = _delivery_id(request)
        found = queries.delivery(self._database, delivery_id)
        if found is None:
            raise NotFound(f"There is no delivery {delivery_id}.")
        return _json(found)

    def replay_delivery(self, request: Request) -> Response:
        """202 when it is pending again; 409 while it is not done."""
        _parameters(request)
        delivery_id = _delivery_id(request)
        if self._inbox.replay([delivery_id], now=_now()):
            self._wake()
            return _json({"status": "pending", "delivery": str(delivery_id)}, 202)
        found = queries.delivery(self._database, delivery_id)
        if found is None:
            raise NotFound(f"There is no delivery {delivery_id}.")
        if found["body"] is None:
            raise BodyExpired("Its body has expired: reconcile the source instead.")
        raise NotEnded("This delivery is still being worked on: wait for its end.")

    # ── the mirror ────────────────────────────────────────────────────────────────────────────────────────────

    def list_tables(self, request: Request) -> Response:
        _parameters(request)
        return _json({"tables": list(self._tables)})

    def list_rows(self, request: Request) -> Response:
        table = self._table(request)
        asked = _parameters(request, "source", "active", "cursor", "limit")
        limit = _limit(asked)
        found = queries.rows(
            self._database,
            table,
            source=self._source(asked.get("source")),
            active=_flag("active", asked.get("active")),
            behind=_key_cursor(asked.get("cursor")),
            limit=limit,
        )
        following = _write_key_cursor(found[-1]["source"], found[-1]["external_id"]) if len(found) == limit else None
        return _json({"items": [queries.show_row(row) for row in found], "next": following})

    def show_row(self, request: Request) -> Response:
        table = self._table(request)
        _parameters(request)
        source, external_id = storable(request.path_params["source"]), storable(request.path_params["external_id"])
        found = queries.row(self._database, table, source, external_id)
        if found is None:
            raise NotFound(f"No row {external_id[:64]!r} of {source[:64]!r} was ever heard of.")
        known = changes.history(self._database, sql_table(table).name, source, external_id, limit=LARGEST_PAGE)
        return _json({"row": queries.show_row(found), "history": [_show_change(each) for each in known]})

    def list_changes(self, request: Request) -> Response:
        """The change feed behind `after`, in commit order; `next` is the value for the next `after`."""
        asked = _parameters(request, "after", "limit")
        after = _number("after", asked.get("after"), 0) or 0
        found = changes.after(self._database, after, limit=_limit(asked))
        return _json({"items": [_show_change(each) for each in found], "next": found[-1]["seq"] if found else after})

    def show_stats(self, request: Request) -> Response:
        _parameters(request)
        return _json({"sources": self._statistics.per_source(now=_now())})

    def _source(self, name: str | None) -> str | None:
        """A source of the settings, or one that has left them and of which something is stored."""
        if name is None or name in self._statistics.sources or queries.is_source(self._database, name):
            return name
        known = ", ".join(self._statistics.sources) or "the settings, which name none"
        raise BadRequest(f"There is no source {name[:64]!r}, nor was there: `source` takes one of {known}.")

    def _table(self, request: Request) -> type[MirrorRow]:
        name = request.path_params["table"]
        if name not in self._tables:
            raise NotFound(f"There is no table {name[:64]!r}: choose one of {', '.join(sorted(self._tables))}.")
        return self._tables[name]

    def _guard(self, scope: Scope, answer: Answer) -> Answer:
        def guarded(request: Request) -> Response:
            self._tokens.check(request.headers.get("authorization"), scope, now=_now())
            return answer(request)

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


def answer_http_error(_: Request, error: Exception) -> Response:
    """What routing refuses, in the same shape."""
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "refused")
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


def _parameters(request: Request, *known: str) -> dict[str, str]:
    unknown = sorted(set(request.query_params) - set(known))
    if unknown:
        allowed = ", ".join(known) or "none"
        raise BadRequest(f"There is no parameter {unknown[0][:64]!r} here; the parameters are: {allowed}.")
    for name in request.query_params:
        if len(request.query_params.getlist(name)) > 1:
            raise BadRequest(f"`{name}` is given more than once: give it once.")
    return {name: storable(value) for name, value in request.query_params.items()}


def _number(name: str, value: str | None, default: int | None) -> int | None:
    if value is None:
        return default
    if not _is_number(value):
        raise BadRequest(f"`{name}` takes a whole number, as this API gave it.")
    return int(value)


def _delivery_id(request: Request) -> int:
    text = request.path_params["id"]
    if not _is_number(text):
        raise NotFound(f"There is no delivery {text[:64]!r}.")
    return int(text)


def _is_number(text: str) -> bool:
    """Whether it is a whole number that a database column holds."""
    return len(text) <= 19 and text.isascii() and text.isdigit() and int(text) < 2**63


def _limit(asked: dict[str, str]) -> int:
    limit = _number("limit", asked.get("limit"), USUAL_PAGE)
    if limit is None or not 1 <= limit <= LARGEST_PAGE:
        raise BadRequest(f"`limit` takes a whole number from 1 to {LARGEST_PAGE}.")
    return limit


def _flag(name: str, value: str | None) -> bool | None:
    if value is None:
        return None
    if value not in ("true", "false"):
        raise BadRequest(f"`{name}` takes true or false.")
    return value == "true"


def _one_of(kind: type[State], name: str, value: str | None) -> State | None:
    if value is None:
        return None
    try:
        return kind(value)
    except ValueError:
        raise BadRequest(f"`{name}` takes one of {', '.join(kind)}.") from None


def _write_key_cursor(source: str, external_id: str) -> str:
    return urlsafe_b64encode(encode([source, external_id])).decode()


def _key_cursor(cursor: str | None) -> tuple[str, str] | None:
    if cursor is None:
        return None
    try:
        source, external_id = decode(urlsafe_b64decode(cursor))
    except (Base64Error, Unreadable, TypeError, ValueError):
        source, external_id = None, None
    if not isinstance(source, str) or not isinstance(external_id, str):
        raise BadRequest("`cursor` takes what `next` of the page before said.")
    return source, external_id
