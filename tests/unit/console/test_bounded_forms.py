"""Forms of the console: while one arrives, its head and body count as incomplete."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import Request

from receiver.console.forms import FORM_MEDIA_TYPE, Forms
from receiver.ingest.heads import HELD
from receiver.ingest.incoming import Incoming
from receiver.settings.limits import Limits


@pytest.mark.parametrize("held", [{}, {HELD: 60_000}], ids=["unknown head", "large head"])
def test_a_form_that_arrives_counts_with_its_head(held: dict[str, int]) -> None:
    async def read() -> tuple[dict[str, str], list[int], int]:
        incoming = Incoming(Limits())
        counted = []
        pieces = [b"name=", b"lamp", b""]

        async def receive() -> dict[str, Any]:
            counted.append(incoming.bytes)
            body = pieces.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(pieces)}

        headers = [(b"content-type", FORM_MEDIA_TYPE.encode()), (b"sec-fetch-site", b"same-origin")]
        request = Request({"type": "http", "method": "POST", "headers": headers, **held}, receive)
        return await Forms(incoming).read(request), counted, incoming.bytes

    head = held.get(HELD, 0)
    assert asyncio.run(read()) == ({"name": "lamp"}, [head, head + 5, head + 9], 0)
