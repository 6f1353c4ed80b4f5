"""IIMMPACT's API for reading, whose requests must be signed (docs/sources.md, section IIMMPACT)."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from simulator.answers import json_answer, whole_number
from simulator.systems.base import iso_milliseconds
from simulator.systems.iimmpact.system import Iimmpact, Resource

Handler = Callable[[Request], Awaitable[Response]]

#: Seconds that a request's timestamp may be off. This is an assumption, because the vendor publishes no number.
TOLERANCE = 300

#: Requests to the catalog in any 60 seconds (docs/sources.md, IIMMPACT, "Limits").
CATALOG_RATE = 60

PER_PAGE = 50


def routes(api: Api) -> list[BaseRoute]:
    return [
        Route("/v2/catalog", api.signed(api.catalog)),
        Route("/v2/options", api.signed(api.options)),
    ]


def signature(secret: str, *, timestamp: str, nonce: str, method: str, query: str, body: bytes) -> str:
    """Sign the canonical string with the base64-decoded secret: `v1=<base64>` (docs/sources.md, "API auth")."""
    digest = b64encode(hashlib.sha256(body).digest()).decode()
    canonical = f"v1:{timestamp}:{nonce}:{method}:{query}:{digest}"
    return "v1=" + b64encode(hmac.digest(b64decode(secret), canonical.encode(), "sha256")).decode()


class Api:
    def __init__(self, system: Iimmpact) -> None:
        self.system = system
        self._nonces: deque[str] = deque(maxlen=10_000)
        self._reads: deque[float] = deque()

    def signed(self, handler: Handler) -> Handler:
        """Wrap a handler: answer 401 if the request is not signed as documented."""

        async def guard(request: Request) -> Response:
            problem = await self._problem(request)
            return failure(401, "UNAUTHORIZED", problem) if problem else await handler(request)

        return guard

    async def catalog(self, request: Request) -> Response:  # noqa: ARG002 (the whole catalog in one answer)
        wait = self._over_rate()
        if wait:
            answer = failure(429, "TOO_MANY_REQUESTS", "The catalog may be read 60 times a minute.")
            answer.headers["Retry-After"] = str(wait)
            return answer
        return json_answer(
            {
                "last_updated": iso_milliseconds(self.system.last_updated),
                "tree": {"groups": [self._group(group) for group in self.system.alive("group")]},
                "products": {product.id: listed(product) for product in self.system.alive("product")},
            }
        )

    async def options(self, request: Request) -> Response:
        product = request.query_params.get("product_code", "")
        number = whole_number(request, "page", default=1, least=1)
        limit = whole_number(request, "limit", default=PER_PAGE, least=1)
        if not product or number is None or limit is None:
            return failure(422, "VALIDATION_ERROR", "product_code is required; page and limit are 1 or more.")
        found = [option.data for option in self.system.alive("option") if option.data["product_code"] == product]
        items = [{name: option[name] for name in ("code", "label", "price")} for option in found]
        return json_answer(
            {
                "product_code": product,
                "field_id": request.query_params.get("field_id"),
                "items": items[(number - 1) * limit : number * limit],
                "meta": {
                    "current_page": number,
                    "last_page": max(1, -(-len(items) // limit)),
                    "per_page": limit,
                    "total": len(items),
                },
            }
        )

    async def _problem(self, request: Request) -> str | None:
        headers = request.headers
        timestamp, nonce = headers.get("x-timestamp", ""), headers.get("x-nonce", "")
        if headers.get("x-api-key") != self.system.api_key:
            return "X-Api-Key is missing or unknown."
        if not (timestamp.isascii() and timestamp.isdigit() and self._is_recent(int(timestamp))):
            return f"X-Timestamp must be the unix time in seconds, off by {TOLERANCE} s at most."
        if not 16 <= len(nonce) <= 128 or nonce in self._nonces:
            return "X-Nonce must be 16 to 128 characters that were not used before."
        wanted = signature(
            self.system.api_secret,
            timestamp=timestamp,
            nonce=nonce,
            method=request.method,
            query=request.url.query,
            body=await request.body(),
        )
        if not hmac.compare_digest(wanted.encode(), headers.get("x-signature", "").encode()):
            return "X-Signature does not fit this request: sign it as documented."
        self._nonces.append(nonce)
        return None

    def _is_recent(self, timestamp: int) -> bool:
        """Whether a timestamp is near the simulated or the real time. A caller cannot know a faster simulated time."""
        moments = (self.system.clock.now(), datetime.now(UTC))
        return any(abs(moment.timestamp() - timestamp) <= TOLERANCE for moment in moments)

    def _over_rate(self) -> int:
        """Count a read of the catalog, and return 0; or return the seconds to wait if there were too many reads."""
        now = self.system.clock.now().timestamp()
        while self._reads and self._reads[0] <= now - 60:
            self._reads.popleft()
        if len(self._reads) >= CATALOG_RATE:
            return max(1, round(self._reads[0] + 60 - now))
        self._reads.append(now)
        return 0

    def _group(self, group: Resource) -> dict[str, Any]:
        categories = [c for c in self.system.alive("category") if c.data["group_id"] == group.id]
        return {**named(group), "categories": [self._category(category) for category in categories]}

    def _category(self, category: Resource) -> dict[str, Any]:
        products = self.system.alive("product")
        codes = [product.id for product in products if product.data["product_category_code"] == category.id]
        return {**named(category), "product_codes": codes}


def named(resource: Resource) -> dict[str, Any]:
    return {name: resource.data[name] for name in ("id", "name", "icon_url")}


def listed(product: Resource) -> dict[str, Any]:
    """Write a product of the catalog: its `code` and `name` are the events' `product_code` and `display_name`."""
    data = product.data
    return {
        "code": data["product_code"],
        "name": data["display_name"],
        "image_url": data["image_url"],
        "is_active": data["is_active"],
        "processing_time": data["processing_time"],
        "denomination": None,
        "pricing": None,
        "fields": [],
    }


def failure(status: int, code: str, message: str) -> Response:
    """Answer with the error body `{"error": {"code", "message"}}`, an assumption: the vendor publishes none."""
    return json_answer({"error": {"code": code, "message": message}}, status=status)
