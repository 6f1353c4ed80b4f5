"""`/openapi.json`: all operations of this installation as an OpenAPI 3.1 document."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from itertools import chain
from typing import Any

from msgspec.json import schema_components
from starlette.concurrency import run_in_threadpool

from receiver.api.operations import Operation, Parameter, Question
from receiver.api.tokens import Scope
from receiver.codec import encode
from receiver.errors import Forbidden, HeadTooLarge, NotAuthorized, Refused, Unavailable, UrlTooLong
from receiver.release import release
from receiver.schemas import Error, codes_of

#: The place of schemas within the document.
SCHEMAS = "#/components/schemas/{name}"

#: The request body of a webhook.
BODY = {
    "required": True,
    "description": "The signed bytes, of any content type.",
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}


#: The response to a request whose If-None-Match has the answer's ETag.
NOT_MODIFIED: dict[str, dict[str, Any]] = {
    "304": {"description": "The answer has not changed: its ETag is in If-None-Match."}
}


#: Errors that any request may get before it is routed.
BY_SIZE: tuple[type[Refused], ...] = (UrlTooLong, HeadTooLarge)


class OpenApi:
    """The operation that returns the document of all operations, itself included."""

    def __init__(self, others: Iterable[Operation]) -> None:
        self._others = tuple(others)
        self._document: bytes | None = None

    def operations(self) -> list[Operation]:
        return [
            Operation(
                name="openapi",
                path="/openapi.json",
                summary="This document",
                answer=self.show_document,
                answers={200: dict[str, Any]},
            )
        ]

    async def show_document(self, _: Question) -> bytes:
        """Return the document, made at the first request and constant while the process runs."""
        if self._document is None:
            self._document = encode(await run_in_threadpool(describe, [*self._others, *self.operations()]))
        return self._document


def describe(operations: Iterable[Operation]) -> dict[str, Any]:
    """Make the document of these operations. It contains no name of a source and no secret."""
    shown = list(chain.from_iterable(operation.described() for operation in operations))
    shapes = list(dict.fromkeys(chain([Error], *(operation.answers.values() for operation in shown))))
    schemas, components = schema_components(shapes, ref_template=SCHEMAS)
    schema_of = dict(zip(shapes, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for operation in shown:
        paths[operation.shown_path][operation.method] = _describe_operation(operation, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Hookmirror",
            "version": release(),
            "description": "The receiving end for product-catalog webhooks. Times are ISO 8601 in UTC, decimals text.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`hookmirror token --scope read` prints one; `operate` includes `read`.",
                }
            },
        },
    }


def _describe_operation(operation: Operation, schema_of: Mapping[Any, Any]) -> dict[str, Any]:
    answers: dict[str, dict[str, Any]] = {
        str(status): {
            "description": HTTPStatus(status).phrase,
            "content": {operation.media_type.partition(";")[0]: {"schema": schema_of[shape]}},
        }
        for status, shape in operation.answers.items()
    }
    if operation.tagged:
        answers |= NOT_MODIFIED
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "responses": answers | _describe_refusals(operation, schema_of[Error]),
    }
    if operation.parameters:
        described["parameters"] = [_describe_parameter(each, operation) for each in operation.parameters]
    if operation.takes_body:
        described["requestBody"] = BODY
    if operation.scope is not None:
        described["security"] = [{"token": [operation.scope.value]}]
    return described


def _describe_parameter(parameter: Parameter[Any], operation: Operation) -> dict[str, Any]:
    in_path = parameter.name in operation.parts_of_path
    return {
        "name": parameter.name,
        "in": "path" if in_path else "query",
        "required": in_path or parameter.is_required,
        "schema": parameter.schema,
        "description": parameter.description,
    }


def _describe_refusals(operation: Operation, error: Mapping[str, Any]) -> dict[str, Any]:
    kinds_by_status: dict[int, list[type[Refused]]] = defaultdict(list)
    for kind in [*operation.refusals, *_refusals_of_tokens(operation.scope), *BY_SIZE]:
        kinds_by_status[kind.status].append(kind)
    return {str(status): _describe_refusal(kinds, error) for status, kinds in sorted(kinds_by_status.items())}


def _refusals_of_tokens(scope: Scope | None) -> list[type[Refused]]:
    if scope is None:
        return []
    return [NotAuthorized] if all(each.allows(scope) for each in Scope) else [NotAuthorized, Forbidden]


def _describe_refusal(kinds: list[type[Refused]], error: Mapping[str, Any]) -> dict[str, Any]:
    codes = [code for kind in kinds for code in codes_of(kind)]
    described: dict[str, Any] = {
        "description": " ".join(kind.__doc__ or kind.code for kind in kinds),
        "content": {"application/json": {"schema": {**error, "properties": {"error": {"enum": codes}}}}},
    }
    if Unavailable in kinds:
        seconds = {"required": True, "schema": {"type": "integer"}, "description": "Seconds to wait."}
        described["headers"] = {"Retry-After": seconds}
    return described
