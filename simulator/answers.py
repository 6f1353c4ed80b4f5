"""Answers of the simulated APIs, written without a float so that prices keep their digits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from receiver import codec


def json_answer(content: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(codec.encode(content), status, headers=headers, media_type="application/json")


def whole_number(request: Request, name: str, *, default: int, least: int = 0, most: int = 1000) -> int | None:
    """A query parameter that must be a whole number in these bounds; None if it is not."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        return None
    return int(text) if least <= int(text) <= most else None
