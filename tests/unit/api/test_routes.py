"""Routes: which client each read counts for."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from api_alone import api_of
from starlette.requests import Request
from starlette.responses import Response

from receiver.api.routes import Address
from receiver.api.tokens import Scope, Tokens
from receiver.database.database import Database


@pytest.fixture
def client_of(tmp_path, monkeypatch):
    """Return the client for whom a read with this token, and these characters before it, waits."""
    with closing(Database(f"sqlite:///{tmp_path / 'unused.db'}")) as database:
        api = api_of(database)
        (stats,) = [each for each in api.routes() if isinstance(each, Address) and each.path == "/api/v1/stats"]
        clients: list[Hashable] = []

        async def run(_: Any, *, client: Hashable, kind: Hashable) -> Response:
            clients.append(client)
            return Response()

        monkeypatch.setattr(api._reads, "run", run)

        def asked(token: str, before: str = "Bearer ") -> Hashable:
            headers = [(b"authorization", f"{before}{token}".encode())]
            scope = {"type": "http", "method": "GET", "path": "/api/v1/stats", "query_string": b"", "headers": headers}
            asyncio.run(stats.endpoint(Request(scope)))
            return clients[-1]

        yield asked


def issued(*, days: int = 1, scope: Scope = Scope.READ, name: str = "") -> str:
    return Tokens(["key"]).issue(scope, now=datetime.now(UTC), lifetime=timedelta(days=days), name=name)


def test_each_token_without_a_name_is_a_client_of_its_own(client_of):
    tokens = [issued(), issued(days=2), issued(scope=Scope.OPERATE)]
    assert len({client_of(token) for token in tokens}) == 3


def test_a_token_is_one_client_however_it_is_written(client_of):
    token = issued()
    assert client_of(token) == client_of(token, before="bearer   ")


def test_a_token_with_the_name_of_a_client_of_the_console_is_another_client(client_of):
    assert client_of(issued(name="live")) != "live"
