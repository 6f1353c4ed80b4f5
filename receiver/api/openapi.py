"""`/openapi.json`: everything that this installation serves, as an OpenAPI 3.1 document.

What each address takes stands here, what it answers in `receiver.api.schemas`, and how it refuses in `receiver.errors`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from itertools import chain
from typing import Any, Literal

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from receiver.api.schemas import (
    Accepted,
    Alive,
    ChangePage,
    DeliveryPage,
    Error,
    NotReady,
    Ready,
    Replayed,
    Statistics,
    Tables,
    WholeDelivery,
    codes_of,
    history_shape,
    page_shape,
    row_shape,
)
from receiver.api.tokens import Scope
from receiver.database.pages import LARGEST_PAGE, USUAL_PAGE
from receiver.errors import (
    BadRequest,
    BodyExpired,
    BodyTooLarge,
    Forbidden,
    NotAuthorized,
    NotEnded,
    NotFound,
    NotVerified,
    Refused,
    Unavailable,
    UnknownSource,
)
from receiver.inbox.tables import State
from receiver.mirror.rows import MirrorRow
from receiver.release import release

#: Where the document finds its own schemas.
SCHEMAS = "#/components/schemas/{model}"

# ── what is asked ─────────────────────────────────────────────────────────────────────────────────────────────────────

#: Every parameter by its name: its schema, and what it says.
PARAMETERS: dict[str, tuple[dict[str, Any], str]] = {
    "active": ({"type": "boolean"}, "Only rows that are active, or only those that are not."),
    "after": ({"type": "integer", "minimum": 0, "default": 0}, "What `next` of the page before said."),
    "cursor": ({"type": "string"}, "What `next` of the page before said."),
    "entity": ({"type": "string"}, "An id, or a kind and an id: `A1` or `product:A1`."),
    "event_type": ({"type": "string"}, "Such as `product.updated`."),
    "external_id": ({"type": "string"}, "The id at the source. It may hold slashes."),
    "id": ({"type": "string"}, "The id of a delivery."),
    "limit": ({"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE, "default": USUAL_PAGE}, "Items of a page."),
    "source": ({"type": "string"}, "The name of a source."),
    "state": ({"type": "string", "enum": [*map(str, State)]}, "The state of a delivery."),
}

#: Of a webhook.
BODY = {
    "required": True,
    "description": "The bytes that are signed, whatever the content type says.",
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one address."""

    name: str
    path: str
    summary: str
    #: What it answers unless it refuses, by status.
    answers: dict[int, Any]
    refusals: tuple[type[Refused], ...] = ()
    method: Literal["get", "post"] = "get"
    query: tuple[str, ...] = ()
    #: What the token must allow; None where no token is wanted.
    scope: Scope | None = None
    media_type: str = "application/json"
    takes_body: bool = False


def operations(tables: Mapping[str, type[MirrorRow]]) -> Iterator[Operation]:
    """Everything that is served, over the mirror tables of these names."""
    yield from _OPEN
    yield from _GUARDED
    for name, table in tables.items():
        yield from _operations_on(name, table)


_OPEN = [
    Operation(
        name="receive",
        method="post",
        path="/hooks/{source}",
        summary="Take in a webhook, signed or encrypted as its sender's system does it",
        takes_body=True,
        answers={200: Accepted},
        refusals=(NotVerified, UnknownSource, BodyTooLarge, Unavailable),
    ),
    Operation(name="healthz", path="/healthz", summary="Whether the process runs", answers={200: Alive}),
    Operation(
        name="readyz",
        path="/readyz",
        summary="Whether deliveries can be stored and the backlog is young enough",
        answers={200: Ready, 503: NotReady},
    ),
    Operation(
        name="metrics",
        path="/metrics",
        summary="The metrics, as Prometheus reads them",
        answers={200: str},
        media_type="text/plain",
    ),
    Operation(name="openapi", path="/openapi.json", summary="This document", answers={200: dict[str, Any]}),
]

_GUARDED = [
    Operation(
        name="list_deliveries",
        path="/api/v1/deliveries",
        summary="Deliveries, newest first",
        scope=Scope.READ,
        query=("source", "state", "event_type", "entity", "cursor", "limit"),
        answers={200: DeliveryPage},
        refusals=(BadRequest, Unavailable),
    ),
    Operation(
        name="show_delivery",
        path="/api/v1/deliveries/{id}",
        summary="One delivery, with headers, body and failed attempts",
        scope=Scope.READ,
        answers={200: WholeDelivery},
        refusals=(BadRequest, NotFound, Unavailable),
    ),
    Operation(
        name="replay_delivery",
        method="post",
        path="/api/v1/deliveries/{id}/replay",
        summary="Send a delivery that is done through again",
        scope=Scope.OPERATE,
        answers={202: Replayed},
        refusals=(BadRequest, NotFound, NotEnded, BodyExpired, Unavailable),
    ),
    Operation(
        name="list_tables",
        path="/api/v1/catalog",
        summary="The names of the mirror's tables",
        scope=Scope.READ,
        answers={200: Tables},
        refusals=(BadRequest,),
    ),
    Operation(
        name="list_changes",
        path="/api/v1/changes",
        summary="The change feed behind `after`, oldest first",
        scope=Scope.READ,
        query=("after", "limit"),
        answers={200: ChangePage},
        refusals=(BadRequest, Unavailable),
    ),
    Operation(
        name="show_stats",
        path="/api/v1/stats",
        summary="Counts and ages per source",
        scope=Scope.READ,
        answers={200: Statistics},
        refusals=(BadRequest, Unavailable),
    ),
]


def _operations_on(name: str, table: type[MirrorRow]) -> Iterator[Operation]:
    """Those on one mirror table. Each table has its own addresses here, because each has rows of its own shape."""
    row = row_shape(table)
    yield Operation(
        name=f"list_rows_of_{name}",
        path=f"/api/v1/catalog/{name}",
        summary=f"Rows of {name}, in the order of source and external id",
        scope=Scope.READ,
        query=("source", "active", "cursor", "limit"),
        answers={200: page_shape(row)},
        refusals=(BadRequest, Unavailable),
    )
    yield Operation(
        name=f"show_row_of_{name}",
        path=f"/api/v1/catalog/{name}/{{source}}/{{external_id}}",
        summary=f"One row of {name}, with its history",
        scope=Scope.READ,
        answers={200: history_shape(row)},
        refusals=(BadRequest, NotFound, Unavailable),
    )


# ── the document ──────────────────────────────────────────────────────────────────────────────────────────────────────


class _Untitled(GenerateJsonSchema):
    """Without a title for every member that only repeats its name."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 (signature is pydantic's)
        return False


def describe(tables: Mapping[str, type[MirrorRow]]) -> dict[str, Any]:
    """The document, for an installation with the mirror tables of these names. It names no source and no secret."""
    served = list(operations(tables))
    shapes = dict.fromkeys(chain([Error], *(operation.answers.values() for operation in served)))
    schemas, defined = TypeAdapter.json_schemas(
        [(shape, "serialization", TypeAdapter(shape)) for shape in shapes],
        ref_template=SCHEMAS,
        schema_generator=_Untitled,
    )
    schema_of = {shape: schemas[shape, "serialization"] for shape in shapes}
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for operation in served:
        paths[operation.path][operation.method] = _describe_operation(operation, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Hookmirror",
            "version": release(),
            "description": "The receiving end for product-catalog webhooks. Times are ISO 8601 in UTC, decimals text.",
        },
        "paths": paths,
        "components": {
            "schemas": defined["$defs"],
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
    answers = {
        str(status): {
            "description": HTTPStatus(status).phrase,
            "content": {operation.media_type: {"schema": schema_of[shape]}},
        }
        for status, shape in operation.answers.items()
    }
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "responses": answers | _describe_refusals(operation, schema_of[Error]),
    }
    parameters = [_describe_parameter(name, "path") for name in re.findall(r"{(\w+)}", operation.path)]
    parameters += [_describe_parameter(name, "query") for name in operation.query]
    if parameters:
        described["parameters"] = parameters
    if operation.takes_body:
        described["requestBody"] = BODY
    if operation.scope is not None:
        described["security"] = [{"token": [operation.scope.value]}]
    return described


def _describe_parameter(name: str, place: Literal["path", "query"]) -> dict[str, Any]:
    schema, description = PARAMETERS[name]
    return {"name": name, "in": place, "required": place == "path", "schema": schema, "description": description}


def _describe_refusals(operation: Operation, error: Mapping[str, Any]) -> dict[str, Any]:
    kinds_by_status: dict[int, list[type[Refused]]] = defaultdict(list)
    for kind in [*operation.refusals, *_refusals_of_tokens(operation.scope)]:
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
