"""Answers of the simulated APIs. Their JSON is written without floats, so that prices keep their digits."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from receiver import codec
from receiver.errors import Unreadable
from receiver.http_urls import url_flaw


def json_answer(content: Any, *, status: int = 200) -> Response:
    return Response(codec.encode(content), status, media_type="application/json")


def whole_number(request: Request, name: str, *, default: int, least: int = 0, most: int = 1000) -> int | None:
    """Read a query parameter that must be a whole number within these bounds; None if it is not."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        return None
    return int(text) if least <= int(text) <= most else None


async def json_object(request: Request) -> dict[str, Any] | None:
    """Read the body of a request; None if it is not a JSON object."""
    try:
        document = codec.decode(await request.body())
    except Unreadable:
        return None
    return document if isinstance(document, dict) else None


def is_url(value: object) -> bool:
    """Whether the value is an http or https URL that can go over the wire, with a host that can exist."""
    return isinstance(value, str) and value.isascii() and url_flaw(value) is None


def is_loopback(url: str) -> bool:
    """Whether the URL's host is this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
