"""Forms of the console: while one arrives, its head and body count as incomplete; and whose pages may post them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import Request

from receiver.console.forms import FORM_MEDIA_TYPE, Forms, refuse_other_sites
from receiver.errors import Forbidden
from receiver.ingest.heads import HELD
from receiver.ingest.incoming import Incoming
from receiver.settings.console import ConsoleSettings
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
        return await Forms(incoming, origin="https://hooks.example").read(request), counted, incoming.bytes

    head = held.get(HELD, 0)
    assert asyncio.run(read()) == ({"name": "lamp"}, [head, head + 5, head + 9], 0)


@pytest.mark.parametrize(
    ("console_url", "origin", "host"),
    [
        ("http://pim.example:8081", "http://pim.example:8081", "pim.example"),
        ("http://pim.example:8081/", "http://pim.example:8081", "10.0.0.7:8000"),
        ("http://pim.example:80", "http://pim.example", "pim.example:8081"),
        ("https://PIM.example:443", "https://pim.example", "pim.example:8443"),
        ("http://[fd00:0::1]:8000", "http://[fd00::1]:8000", "[fd00::1]"),
        ("http://other.example", "http://pim.example:8081", "pim.example:8081"),
    ],
)
def test_a_page_at_the_console_url_may_post_whatever_a_proxy_makes_of_the_host(
    console_url: str, origin: str, host: str
) -> None:
    ours = ConsoleSettings(console_url=console_url).console_origin
    refuse_other_sites({"origin": origin, "host": host}, ours)


@pytest.mark.parametrize("host", ["pim.example", "pim.example:8000"])
def test_a_form_that_only_a_changed_port_makes_another_site_s_is_refused_with_what_to_do(host: str) -> None:
    with pytest.raises(Forbidden, match=r"A proxy changed the port in the header Host.* set `console_url`"):
        refuse_other_sites({"origin": "http://pim.example:8081", "host": host}, "http://127.0.0.1:8000")
