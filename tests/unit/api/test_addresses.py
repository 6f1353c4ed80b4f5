"""Addresses of the API: an id that ends like a longer address is told apart from that address."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from receiver.api.routes import Address


async def _why(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"why {request.path_params['id']}")


async def _row(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"row {request.path_params['id']}")


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/rows/A/why", "why A"),
        ("/rows/A%2Fwhy", "row A/why"),
        ("/rows/A%2Fb/why", "why A/b"),
        ("/rows/A%2Fwhy/why", "why A/why"),
        ("/rows/why", "row why"),
        ("/rows/A", "row A"),
        ("/rows/A/why?x=%2Fy", "why A"),
        ("/rows/A%2Fwhy?x=/why", "row A/why"),
    ],
)
def test_an_escaped_slash_belongs_to_the_id(path, answer):
    app = Starlette(routes=[Address("/rows/{id:path}/why", _why), Address("/rows/{id:path}", _row)])

    async def get() -> str:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://receiver") as client:
            return (await client.get(path)).text

    assert asyncio.run(get()) == answer
