"""A database that is away for a while, and comes back as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from senders import body, sent
from serving import Served
from sqlalchemy import URL, make_url
from waiting import wait_until


@contextmanager
def away(url: str) -> Iterator[None]:
    """Let no connection, old or new, use the database until the end of the block."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        assert parsed.database is not None
        path = Path(parsed.database)
        kept = path.rename(path.with_name("elsewhere.db"))
        # A folder in its place keeps new connections from making an empty file.
        path.mkdir()
        try:
            yield
        finally:
            path.rmdir()
            kept.rename(path)
        return
    _allow_connections(parsed, allowed=False)
    try:
        yield
    finally:
        _allow_connections(parsed, allowed=True)


def acked_again(served: Served, *, key: str) -> str:
    """Send a webhook until it is acked, because a database that was away must first be shown to be sound."""
    whole = sent("sigma", body("sigma", key=key))
    answer = wait_until(lambda: (given := served.post("sigma", *whole)).status_code == 200 and given, "an ack")
    return str(answer.json()["delivery"])


def _allow_connections(url: URL, *, allowed: bool) -> None:
    server = url.set(drivername="postgresql", database="postgres").render_as_string(hide_password=False)
    with psycopg.connect(server, autocommit=True, connect_timeout=10) as session:
        session.execute(f'ALTER DATABASE "{url.database}" ALLOW_CONNECTIONS {str(allowed).lower()}')  # type: ignore[arg-type]
        if not allowed:
            end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
            session.execute(end, [url.database])
