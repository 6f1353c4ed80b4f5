"""Sigma PIM's API: records and variants (docs/sources.md, section Sigma PIM, "API")."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from simulator.answers import json_answer, whole_number
from simulator.systems.sigma.entities import SigmaEntity, Variant
from simulator.systems.sigma.system import Sigma

Handler = Callable[[Request], Awaitable[Response]]

#: Sigma docs, section "Endpoints": the samples carry a JWT. The simulator checks only its first characters.
JWT_START = "eyJ"

#: The status of each error code (docs/sources.md, Sigma PIM, "Errors"). The vendor publishes none for the last two.
STATUS = {"VALIDATION_ERROR": 400, "UNAUTHORIZED": 401, "PERMISSION_DENIED": 403, "NOT_FOUND": 404, "CONFLICT": 409}

READING = ("GET", "HEAD")


def routes(system: Sigma) -> list[BaseRoute]:
    api = Api(system)
    return [
        Route("/records", api.guarded(api.records)),
        Route("/records/{id}", api.guarded(api.record)),
        Route("/variants", api.guarded(api.variants)),
        Route("/records/{id}/variants", api.guarded(api.record_variants)),
        Route("/records/{id}/variants/{variant}", api.guarded(api.record_variant)),
        Route("/records/{id}/variants/{variant}/resolved", api.guarded(api.resolved)),
    ]


def guarded(system: Sigma, handler: Handler) -> Handler:
    """Wrap a handler: answer 401 without `Authorization: Bearer <JWT>` or a `X-Sigma-ApiKey` of the account."""

    async def guard(request: Request) -> Response:
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        key = request.headers.get("x-sigma-apikey")
        if key == system.reading_key and request.method not in READING:
            return failure("PERMISSION_DENIED", "This API key may only read.")
        if key not in (system.api_key, system.reading_key) and not bearer.startswith(JWT_START):
            return failure("UNAUTHORIZED", "Send a bearer token, or an API key in X-Sigma-ApiKey.")
        return await handler(request)

    return guard


class Api:
    def __init__(self, system: Sigma) -> None:
        self.system = system

    def guarded(self, handler: Handler) -> Handler:
        return guarded(self.system, handler)

    async def records(self, request: Request) -> Response:
        wanted = {
            "schemaId": request.query_params.get("schemaId"),
            "lifecycleStateId": request.query_params.get("lifecycleStateId"),
        }
        records = [entity.record() for entity in self.system.alive()]
        chosen = [
            record
            for record in records
            if all(value is None or record[name] == value for name, value in wanted.items())
        ]
        return page(request, chosen)

    async def record(self, request: Request) -> Response:
        entity = self._entity(request)
        return json_answer(entity.record()) if entity else not_found("record")

    async def variants(self, request: Request) -> Response:
        schema = request.query_params.get("schemaId")
        items = [
            entity.variant_record(variant)
            for entity in self.system.alive()
            if schema in (None, entity.schema)
            for variant in entity.variants.values()
        ]
        return page(request, items)

    async def record_variants(self, request: Request) -> Response:
        entity = self._entity(request)
        if entity is None:
            return not_found("record")
        return page(request, [entity.variant_record(variant) for variant in entity.variants.values()])

    async def record_variant(self, request: Request) -> Response:
        found = self._variant(request)
        return json_answer(found[0].variant_record(found[1])) if found else not_found("variant")

    async def resolved(self, request: Request) -> Response:
        found = self._variant(request)
        if found is None:
            return not_found("variant")
        entity, variant = found
        return json_answer(
            {
                "effectiveValues": {**entity.values, **variant.values},
                "overriddenAttributes": [alias for alias in variant.values if alias in entity.values],
                "inheritedAttributes": [alias for alias in entity.values if alias not in variant.values],
            }
        )

    def _entity(self, request: Request) -> SigmaEntity | None:
        entity = self.system.entities.get(request.path_params["id"])
        return entity if entity and entity.alive else None

    def _variant(self, request: Request) -> tuple[SigmaEntity, Variant] | None:
        entity = self._entity(request)
        variant = entity.variants.get(request.path_params["variant"]) if entity else None
        return (entity, variant) if entity and variant else None


def page(request: Request, items: Sequence[Any]) -> Response:
    """Answer with a page, `{"items", "total", "offset", "limit"}`, of 50 items unless the request says otherwise."""
    offset = whole_number(request, "offset", default=0, most=10**9)
    limit = whole_number(request, "limit", default=50, least=1, most=500)
    if offset is None or limit is None:
        return failure("VALIDATION_ERROR", "offset must be 0 or more, limit 1 to 500.")
    chosen = items[offset : offset + limit]
    return json_answer({"items": chosen, "total": len(items), "offset": offset, "limit": limit})


def failure(code: str, message: str, *, status: int | None = None) -> Response:
    """Answer with the error body of every endpoint, `{"error": "CODE", "message": …}`."""
    return json_answer({"error": code, "message": message}, status=status or STATUS[code])


def not_found(what: str) -> Response:
    return failure("NOT_FOUND", f"There is no such {what}.")
