"""The most connections to PostgreSQL of each kind of process, as the page on deployment names them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from receiver.database.database import Database
from receiver.server.app import App
from receiver.server.console_app import ConsoleApp
from receiver.server.runtime import Runtime
from receiver.server.signals import Requests
from receiver.server.upkeep import watch
from receiver.settings.settings import Settings
from receiver.worker.processes import Kind
from receiver.worker.thread import WorkerThread

PAGE = Path(__file__).parents[3] / "docs" / "deployment.md"

#: The session of a listener.
LISTENING = 1


@pytest.fixture
def runtime() -> Runtime:
    source = {"dialect": "iimmpact", "secrets": ["the secret of a test"]}
    settings = Settings(
        database_url="postgresql://nobody@127.0.0.1:1/nothing",
        secret_key="a-secret-key-for-tests",
        console=True,
        sources={"iimmpact": source},
    )
    return Runtime(settings)


def pooled(database: Database) -> int:
    """The most connections of the pools of a database and of those beside it."""
    pools = [each.engine.pool for each in (database, *database._others)]
    return sum(pool.size() + pool._max_overflow for pool in pools)  # type: ignore[attr-defined]


def on_the_page(process: str) -> int:
    found = re.search(rf"^\| {re.escape(process)} \| (\d+)", PAGE.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize(
    ("process", "with_worker"), [("`serve --no-worker`", False), ("`serve` with its worker", True)]
)
def test_a_server_has_at_most_as_many_as_the_page_says(runtime, process, with_worker):
    App(runtime, with_worker=with_worker)
    most = pooled(runtime.database) + with_worker * LISTENING
    assert most == on_the_page(process) + runtime.settings.api_reads_at_once


def test_a_worker_has_at_most_as_many_as_the_page_says(runtime):
    WorkerThread(runtime.worker, runtime.database)
    watch(runtime.database, "a worker", Kind.WORKER, runtime.facts)
    assert pooled(runtime.database) + LISTENING == on_the_page("`worker`")


def test_a_console_has_at_most_as_many_as_the_page_says(runtime):
    ConsoleApp(runtime, requests=Requests())
    most = pooled(runtime.database)
    assert most == on_the_page("`console`") + runtime.settings.api_reads_at_once
