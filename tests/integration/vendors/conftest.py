"""Fixtures of tests of the ready dialects: the sender's API as a function, and a source that asks it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from receiver.testing import Webhooks


@pytest.fixture
def hookmirror_database_url() -> str:
    """Use SQLite only, which suffices for a dialect; tests/integration/test_fixtures.py runs on both databases."""
    return ""


@pytest.fixture
def with_api(webhooks: Webhooks, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a function that adds a source whose API is a function: `with_api("shopify", answer)`."""

    def add(name: str, answer: Callable[[httpx.Request], httpx.Response], **settings: Any) -> Any:
        monkeypatch.setattr(httpx.HTTPTransport, "handle_request", lambda _, request: _answered(answer, request))
        return webhooks.source(name, api_url="http://api.test/v1", api_key="key", api_secret="secret", **settings)

    return add


def _answered(answer: Callable[[httpx.Request], httpx.Response], request: httpx.Request) -> httpx.Response:
    request.read()
    response = answer(request)
    response.request = request
    return response
