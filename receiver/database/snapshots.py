"""Snapshots: several reads of one thread in one transaction, which see the same state and cost fewer round trips."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from sqlalchemy import Connection


class Snapshot(threading.local):
    """The reading transaction that the present thread shares; None outside of `one_snapshot`."""

    connection: Connection | None = None


class Readable(Protocol):
    """A database, as far as a snapshot needs it."""

    snapshot: Snapshot

    def read(self) -> AbstractContextManager[Connection]: ...


@contextmanager
def one_snapshot(database: Readable) -> Iterator[None]:
    """Let every `read` of this thread inside the block see the same state, in one transaction, which writes nothing."""
    with database.read() as connection:
        before, database.snapshot.connection = database.snapshot.connection, connection
        try:
            yield
        finally:
            database.snapshot.connection = before
