"""Fixtures of tests with real parts: no settings of this machine, and a small shop on either database."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing

import pytest
import structlog
from patience import more_patience
from serving import TIMEOUT
from shopping import new_shop, new_worker, url_of
from short_pauses import shorter_pauses

from receiver import Dialect
from receiver.database import postgresql
from receiver.database.database import Database
from receiver.inbox.arrival import Accepted, Arrival
from receiver.inbox.inbox import Inbox
from receiver.testing import Webhooks
from receiver.worker.worker import Worker


@pytest.fixture(autouse=True, scope="session")
def _no_settings_from_outside():
    """Remove the settings once per session, because servers of a wider scope start early."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("HOOKMIRROR_")]:
            patch.delenv(name)
        yield


@pytest.fixture(autouse=True, scope="session")
def _plain_logs():
    """Log plain tracebacks, because structlog's colored ones take longer than most of these tests."""
    before = structlog.get_config()
    structlog.configure(processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()])
    yield
    structlog.configure(**before)


@pytest.fixture(autouse=True, scope="session")
def _more_patience():
    with more_patience():
        yield


@pytest.fixture(autouse=True, scope="session")
def _shorter_pauses():
    with shorter_pauses():
        yield


@pytest.fixture
def shop() -> Dialect:
    """Give a new dialect to each test."""
    return new_shop()


@pytest.fixture
def hookmirror_database_url(mirror_url) -> str:
    """Make the shipped fixture `webhooks` use both databases here."""
    return mirror_url


@pytest.fixture
def database(mirror_url) -> Iterator[Database]:
    """Open a database with its tables, beside no kit."""
    with closing(Database(mirror_url)) as opened:
        yield opened


@pytest.fixture
def kit(tmp_path, shop, mirror_url) -> Iterator[Webhooks]:
    """Open the shipped test kit with `shop` as its only dialect."""
    webhooks = Webhooks(tmp_path, {"shop": shop}, database_url=mirror_url)
    yield webhooks
    webhooks.close()


@pytest.fixture
def worker(kit) -> Iterator[Worker]:
    """Make a worker with a constant jitter: each wait is half of its limit."""
    working = new_worker(kit)
    yield working
    working.close()


@pytest.fixture
def settled(monkeypatch) -> list[int]:
    """Record the number of deliveries of each settlement."""
    sizes, settle = [], Inbox.settle

    def noted(self, connection, worker, endings, **options):
        sizes.append(len(endings))
        settle(self, connection, worker, endings, **options)

    monkeypatch.setattr(Inbox, "settle", noted)
    return sizes


@pytest.fixture
def short_lock_waits(monkeypatch, kit) -> None:
    """Let new connections of the kit wait for locks of other sessions briefly."""
    monkeypatch.setitem(postgresql.SESSION, "lock_timeout", "50ms")
    kit.database.engine.dispose()


@pytest.fixture
def psql(kit) -> Iterator[Database]:
    """Connect to the kit's database as another program does."""
    with closing(Database(url_of(kit))) as other:
        yield other


@pytest.fixture
def gate(monkeypatch):
    """Hold every commit back until the event is set."""
    opened = threading.Event()
    accept = Inbox.accept

    def wait_and_accept(inbox: Inbox, arrivals: Sequence[Arrival]) -> list[Accepted]:
        assert opened.wait(TIMEOUT)
        return accept(inbox, arrivals)

    monkeypatch.setattr(Inbox, "accept", wait_and_accept)
    yield opened
    opened.set()
