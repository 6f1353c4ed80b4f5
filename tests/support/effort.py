"""Counts the cost of a piece of work, without timing it: the same work has the same figures on any machine.

Only the present thread is observed. A warm-up must come first, because a first call fills caches.
"""

from __future__ import annotations

import gc
import sqlite3
import struct
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import psycopg
from sqlalchemy import Engine, event
from sqlalchemy.pool import ConnectionPoolEntry
from waiting import wait_until

from receiver.database.database import Database

#: Bytes of the head of a write-ahead log, and of the head of each of its frames (SQLite, "The WAL File Format").
LOG_HEAD, FRAME_HEAD = 32, 24

#: Frames after which SQLite starts the log over, so that earlier ones would not be counted.
MOST_FRAMES = 1_000

#: The functions of psycopg that send statements, and the names of those of sqlite3.
SENDS = (psycopg.Cursor.execute.__code__, psycopg.Cursor.executemany.__code__)
RUNS = ("execute", "executemany", "executescript")


class Effort(NamedTuple):
    """The figures of a piece of work."""

    #: Statements given to the driver. On SQLite, those that begin transactions are among them.
    statements: int
    #: Committed transactions; on SQLite, those that wrote.
    commits: int
    #: Inserted, updated and deleted rows of all tables.
    rows: int
    #: Pages in SQLite's write-ahead log; 0 on PostgreSQL.
    pages: int
    #: Calls of functions, those written in C included.
    calls: int


#: What each figure counts, for messages.
UNITS = {
    "statements": "statements",
    "commits": "committed transactions",
    "rows": "written rows",
    "pages": "pages written to the log",
    "calls": "calls of functions",
}


class Meter:
    """Counts the effort of work on one database. Make it before the database opens its first connection."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connections: list[Any] = []
        self._statements = self._calls = 0
        event.listen(database.engine, "connect", self._watch)

    def effort(self, work: Callable[[], object]) -> Effort:
        """Do the work, and return its figures."""
        gc.collect()
        if not self._database.is_postgresql:
            self._empty_log()
        commits, rows = self._written()
        self._statements = self._calls = 0
        # A collection at a random moment would call finalizers of objects that others have left behind.
        gc.disable()
        sys.setprofile(self._count)
        try:
            work()
        finally:
            sys.setprofile(None)
            gc.enable()
        statements, calls = self._statements, self._calls
        commits_after, rows_after = self._written()
        frames = 0 if self._database.is_postgresql else self._log()[1]
        if self._database.is_postgresql:
            commits_after -= len(self._connections)
        return Effort(statements, commits_after - commits, rows_after - rows, frames, calls)

    def _watch(self, connection: Any, _record: ConnectionPoolEntry) -> None:
        self._connections.append(connection)

    def _count(self, frame: FrameType, kind: str, called: Any) -> None:
        if kind == "call":
            self._calls += 1
            self._statements += frame.f_code in SENDS
        elif kind == "c_call":
            self._calls += 1
            of = getattr(called, "__self__", None)
            self._statements += isinstance(of, sqlite3.Connection | sqlite3.Cursor) and called.__name__ in RUNS

    def _written(self) -> tuple[int, int]:
        """The number of commits and of written rows so far."""
        if self._database.is_postgresql:
            return _written_on_server(self._database.engine, self._connections)
        return self._log()[0], sum(_changes(connection) for connection in self._connections)

    # ── the write-ahead log of SQLite ─────────────────────────────────────────────────────────────────────────────

    def _empty_log(self) -> None:
        with closing(sqlite3.connect(self._file)) as connection:
            busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert not busy, "another connection is in the way of the checkpoint"

    def _log(self) -> tuple[int, int]:
        """The number of commits and of frames in the log."""
        path = Path(f"{self._file}-wal")
        if not path.exists() or not (log := path.read_bytes()):
            return 0, 0
        (page,) = struct.unpack_from(">I", log, 8)
        salts = log[16:24]
        places = range(LOG_HEAD, len(log), FRAME_HEAD + page)
        frames = [place for place in places if log[place + 8 : place + 16] == salts]
        assert len(frames) < MOST_FRAMES, "the log may have started over: make the work smaller"
        # The frame that ends a transaction has the size of the file; others have 0.
        commits = sum(log[place + 4 : place + 8] != b"\0\0\0\0" for place in frames)
        return commits, len(frames)

    @property
    def _file(self) -> str:
        return str(self._database.engine.url.database)


def _changes(connection: Any) -> int:
    try:
        return int(connection.total_changes)
    except sqlite3.ProgrammingError:
        # The pool has closed it.
        return 0


def _written_on_server(engine: Engine, connections: list[Any]) -> tuple[int, int]:
    """Ask the server, over a connection to another database, which adds nothing to the figures of this one."""
    opened = [connection for connection in connections if not connection.closed]
    for connection in opened:
        # The server counts when a session's transaction ends, at most once a second unless it is asked to.
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_stat_force_next_flush()")
        connection.commit()
    ours = [connection.info.backend_pid for connection in opened]
    url = engine.url.set(drivername="postgresql", database="postgres").render_as_string(hide_password=False)
    counted = "SELECT xact_commit, tup_inserted + tup_updated + tup_deleted FROM pg_stat_database WHERE datname = %s"
    with psycopg.connect(url, autocommit=True) as beside:
        # A session that was closed before adds its figures when its process ends, which may be later.
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND pid <> ALL(%s)"
        given = (engine.url.database, ours)
        wait_until(lambda: beside.execute(others, given).fetchone() == (0,), "the sessions of others to end")
        row = beside.execute(counted, (engine.url.database,)).fetchone()
    assert row is not None
    return row[0], row[1]


def grown(today: Effort, seen: Effort, *, tolerance: float) -> list[str]:
    """Describe each figure that exceeds today's by more than `tolerance`; one that is small may not grow at all."""
    return [
        f"{now:,} {UNITS[name]}, which were {before:,} (at most {int(before * (1 + tolerance)):,} are allowed)"
        for name, before, now in zip(Effort._fields, today, seen, strict=True)
        if now > int(before * (1 + tolerance))
    ]
