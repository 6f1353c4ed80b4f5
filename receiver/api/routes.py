"""The routes of the HTTP API, made from the resources' operations, with a check of tokens (`hookmirror token`).

The document in `receiver.api.openapi` is made from the same operations.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from inspect import iscoroutinefunction
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Send
from starlette.types import Scope as RequestScope

from receiver.api import parameters
from receiver.api.docs_page import DocsPage
from receiver.api.etags import with_etag
from receiver.api.hooks import HOOKS
from receiver.api.openapi import OpenApi, describe
from receiver.api.operations import NOBODY, Operation
from receiver.api.reads import Reads
from receiver.api.resources import Resource
from receiver.api.tokens import Tokens
from receiver.codec import encode
from receiver.database.errors import describe_for_all
from receiver.errors import NAMES_HEADER, NotAuthorized, Refused, Unavailable
from receiver.logs.repeats import Repeats
from receiver.logs.safe_text import told_with_limit
from receiver.metrics import metrics
from receiver.runs.actions import By, Via
from receiver.schemas import Error

log = Repeats(structlog.get_logger(__name__))

#: A function that answers a request after an error.
ErrorAnswer = Callable[[Request, Exception], Response]


class Address(Route):
    """A route that matches line ends inside a parameter, and none after its own end."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        # In Starlette's patterns, `.` matches no line end and `$` matches before one: so the id "A\nB" would find no
        # row, and the id "A\n" the row A.
        self.path_regex = re.compile(self.path_regex.pattern.removesuffix("$") + r"\Z", re.DOTALL)
        #: The suffixes after a parameter that may contain slashes.
        self._end = path.rpartition(":path}")[2].encode() if ":path}" in path else b""

    def matches(self, scope: RequestScope) -> tuple[Match, RequestScope]:
        """Whether the request matches. `A/why` is the explanation of the row `A`; the row `A/why` is `A%2Fwhy`."""
        raw = scope.get("raw_path")
        if self._end and isinstance(raw, bytes) and not raw.partition(b"?")[0].endswith(self._end):
            return Match.NONE, {}
        return super().matches(scope)

    async def handle(self, scope: RequestScope, receive: Receive, send: Send) -> None:
        """Answer a request. Raises `HTTPException`, which names the methods of the address, for another method."""
        if scope["method"] not in (self.methods or ()):
            same = (each for each in scope["router"].routes if each.matches(scope)[0] is not Match.NONE)
            allowed = sorted({method for each in same for method in each.methods})
            raise HTTPException(405, headers={"Allow": ", ".join(allowed)})
        await super().handle(scope, receive, send)


class Api:
    """The routes for the operations of some resources."""

    def __init__(self, tokens: Tokens, reads: Reads, resources: Iterable[Resource]) -> None:
        """`reads` runs the operations that read the database."""
        self._tokens, self._reads = tokens, reads
        page = DocsPage(lambda: describe(self.operations))
        described = [*HOOKS, *(each for resource in (*resources, page) for each in resource.operations())]
        #: All operations, webhooks included.
        self.operations: Sequence[Operation] = [*described, *OpenApi(described).operations()]

    def routes(self) -> list[BaseRoute]:
        """Make a route for each operation except webhooks, which the endpoint handles before routing."""
        return [
            Address(operation.path, self._serve(operation), methods=[operation.method.upper()])
            for operation in self.operations
            if operation.answer is not None
        ]

    def _serve(self, operation: Operation) -> Callable[[Request], Awaitable[Response]]:
        answer = operation.answer
        assert answer is not None

        async def served(request: Request) -> Response:
            by, token = NOBODY, None
            if operation.scope is not None:
                authorization = request.headers.get("authorization")
                token = self._tokens.check(authorization, operation.scope, now=datetime.now(UTC))
                by = By(token.name, Via.API)
            asked = parameters.ask(request, operation, by=by)
            if iscoroutinefunction(answer):
                return _answer(operation, await answer(asked))
            response = await self._reads.run(
                lambda: _answer(operation, answer(asked)), client=token, kind=operation.name
            )
            return with_etag(response, request.headers.get("if-none-match")) if operation.tagged else response

        return served


def _answer(operation: Operation, content: Any) -> Response:
    status = operation.status_of(content)
    return _respond(content, status, dict(operation.headers), media_type=operation.media_type)


def _respond(
    content: Any, status: int, headers: dict[str, str] | None = None, media_type: str = "application/json"
) -> Response:
    return Response(content if isinstance(content, bytes) else encode(content), status, headers, media_type)


def error_answers(meant: Callable[[str], Mapping[str, str]] = lambda _: {}) -> Mapping[Any, ErrorAnswer]:
    """The answers to every kind of error, in Starlette's form; `meant` is that of `http_errors`."""
    return {
        Refused: answer_refused,
        HTTPException: http_errors(meant),
        SQLAlchemyError: answer_database_error,
        Exception: answer_own_error,
    }


def answer_refused(_: Request, error: Exception) -> Response:
    """Answer one of Hookmirror's errors with its code and message."""
    assert isinstance(error, Refused)
    headers = {}
    if isinstance(error, NotAuthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(error.retry_after)
    if error.names:
        headers[NAMES_HEADER] = " ".join(error.names)
    return _respond(Error.of(error), error.status, headers)


def http_errors(meant: Callable[[str], Mapping[str, str]]) -> ErrorAnswer:
    """Answers requests that routing refuses. `meant` returns log fields for a path that may be meant for a webhook."""

    def answer_http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "refused")
        path = request.url.path
        if request.method == "POST":
            metrics.REFUSED.labels("", code).inc()
            log.warning(
                "refused what may be a webhook with a wrong address", about={"code": code}, path=path, **meant(path)
            )
        allowed = (error.headers or {}).get("Allow", "other methods")
        message = {404: "This address does not exist: see docs/api.md.", 405: f"This address takes {allowed} only."}
        told = Error(code, message.get(error.status_code, error.detail))
        return _respond(told, error.status_code, dict(error.headers or {}))

    return answer_http_error


def answer_database_error(request: Request, error: Exception) -> Response:
    """Answer after an error of the database with its kind, and log its text."""
    assert isinstance(error, SQLAlchemyError)
    log.warning(
        "cannot answer, because of the database", about={}, path=request.url.path[:200], error=told_with_limit(error)
    )
    return answer_refused(request, Unavailable(f"{describe_for_all(error)} Try again later."))


def answer_own_error(request: Request, _: Exception) -> Response:
    """Answer after an error here, which the server logs: with a code and a message, as after every other error."""
    told = Unavailable("An error in this process prevented the answer, and its log says which. Try again later.")
    answer = answer_refused(request, told)
    # The server ends the connection after an error.
    answer.headers["Connection"] = "close"
    return answer
