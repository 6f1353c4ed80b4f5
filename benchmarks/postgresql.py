"""A PostgreSQL server of the benchmarks' own that syncs to disk, with a new database for each measurement."""

from __future__ import annotations

import atexit
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path

import psycopg

import handlers.catalog  # noqa: F401 (its tables are part of the mirror)
from receiver.database.database import Database
from receiver.database.schema import Schema
from tests.support.postgresql_server import PostgresServer

#: Settings of the server that a run prints, because the figures depend on them.
SHOWN = ("fsync", "full_page_writes", "synchronous_commit", "shared_buffers")


def described() -> str:
    """Describe the server's release and settings in one line."""
    with psycopg.connect(_server().url()) as connection:
        names = ("server_version", *SHOWN)
        release, *shown = (connection.execute(f"SHOW {name}").fetchone()[0] for name in names)  # type: ignore[index]
    return f"PostgreSQL {release}, " + ", ".join(f"{name}={value}" for name, value in zip(SHOWN, shown, strict=True))


@contextmanager
def fresh_database(*, tree: Path | None = None) -> Iterator[str]:
    """Make a database with the tables of this release or of the code in `tree`, give its URL, and drop it later."""
    with copied_database() as url:
        if tree is not None:
            environment = os.environ | {"HOOKMIRROR_DATABASE_URL": url}
            subprocess.run([sys.executable, "-m", "receiver", "migrate"], env=environment, cwd=tree, check=True)
        else:
            with closing(Database(url)) as database:
                Schema(database).upgrade()
        yield url


@contextmanager
def copied_database(url: str | None = None) -> Iterator[str]:
    """Copy the unconnected database at `url`, or make an empty one, and drop it after the block."""
    name = f"benchmark_{secrets.token_hex(4)}"
    template = "template1" if url is None else url.rpartition("/")[2]
    _run(f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield _server().url(name)
    finally:
        _run(f"DROP DATABASE {name} WITH (FORCE)")


@cache
def _server() -> PostgresServer:
    """Start the server on the first call; it is removed when the run ends."""
    server = PostgresServer(fsync="on", full_page_writes="on")
    atexit.register(server.remove)
    server.start()
    return server


def _run(statement: str) -> None:
    with psycopg.connect(_server().url(), autocommit=True) as connection:
        connection.execute(statement)
