"""sticky.io's REST v2 for products, behind HTTP Basic (docs/sources.md, section sticky.io, "REST v2").

A product of the API differs from the webhook's object: its times are `{date, timezone_type, timezone}`, and a bundle
has `is_bundle` and `bundle_children`.
"""

from __future__ import annotations

import hmac
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from simulator.answers import json_answer, whole_number
from simulator.systems.sticky.products import Product, eastern
from simulator.systems.sticky.system import Sticky

Handler = Callable[[Request], Awaitable[Response]]

PER_PAGE = 15


def routes(api: Api) -> list[BaseRoute]:
    return [
        Route("/api/v2/products", api.guarded(api.products)),
        Route("/api/v2/products/{id:int}", api.guarded(api.product)),
    ]


class Api:
    def __init__(self, system: Sticky) -> None:
        self.system = system

    def guarded(self, handler: Handler) -> Handler:
        async def guard(request: Request) -> Response:
            if not self._is_known(request.headers.get("authorization", "")):
                return failure(401, "Send the API user and password with HTTP Basic.")
            return await handler(request)

        return guard

    async def products(self, request: Request) -> Response:
        number = whole_number(request, "page", default=1, least=1)
        if number is None:
            return failure(422, "page must be 1 or more.")
        found = [listed(product) for product in self.system.alive()]
        last = max(1, -(-len(found) // PER_PAGE))
        following = f"{request.url.replace(query='')}?page={number + 1}" if number < last else None
        return json_answer(
            {
                "status": "SUCCESS",
                "data": found[(number - 1) * PER_PAGE : number * PER_PAGE],
                "current_page": number,
                "last_page": last,
                "next_page_url": following,
                "per_page": PER_PAGE,
                "total": len(found),
            }
        )

    async def product(self, request: Request) -> Response:
        product = self.system.products.get(str(request.path_params["id"]))
        if product is None or not product.alive:
            return failure(404, "There is no such product.")
        return json_answer({"status": "SUCCESS", "data": detailed(product)})

    def _is_known(self, authorization: str) -> bool:
        expected = f"{self.system.api_user}:{self.system.api_password}".encode()
        try:
            given = b64decode(authorization.removeprefix("Basic "), validate=True)
        except (Base64Error, ValueError):
            return False
        return authorization.startswith("Basic ") and hmac.compare_digest(given, expected)


def listed(product: Product) -> dict[str, Any]:
    return {
        "id": product.id,
        "name": product.name,
        "sku": product.sku,
        "price": str(product.price),
        "description": product.description,
        "vertical": product.vertical,
        "category": product.category,
        "is_bundle": product.kind != "product",
        "created_at": time(product.created_at),
        "updated_at": time(product.updated_at),
    }


def detailed(product: Product) -> dict[str, Any]:
    return {
        **listed(product),
        "variants": [variant.listed() for variant in product.variants.values()],
        "bundle_children": product.children,
    }


def time(moment: datetime) -> dict[str, Any]:
    """Write a time as PHP writes time objects. Type 3 is a named zone."""
    text = eastern(moment).strftime("%Y-%m-%d %H:%M:%S.%f")
    return {"date": text, "timezone_type": 3, "timezone": "America/New_York"}


def failure(status: int, message: str) -> Response:
    """Answer with the error body `{"status": "FAILURE", "message"}`, an assumption: the vendor publishes none."""
    return json_answer({"status": "FAILURE", "message": message}, status=status)
