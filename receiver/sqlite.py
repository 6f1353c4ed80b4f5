"""How a connection to SQLite is looked after: its transactions, its turn with the one writer, and its file.

SQLite takes one writer at a time. Inside a process the writers queue on a lock of ours (`receiver.database`); the first
of them looks often whether another process is done writing, bounded by `BUSY_TIMEOUT` (docs/decisions/0014).
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from typing import TypeVar, cast

from sqlalchemy import Connection, Dialect, Engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

Result = TypeVar("Result")

#: Milliseconds that a transaction waits for another process's writer before it gives up, and seconds between two looks
#: whether that one is done.
BUSY_TIMEOUT, BUSY_LOOK = 5_000, 0.001

#: How a transaction of SQLite begins that writes.
IMMEDIATELY = "BEGIN IMMEDIATE"

#: Instructions of SQLite's between two looks whether a statement has taken too long: well below a millisecond.
STEPS = 20_000

#: SQLite goes on writing to a file that is no longer at its place, and so would acks be lost with it.
MOVED = "the file was moved or removed while it was open"


def look_after(engine: Engine) -> None:
    """Have every connection of this engine opened, and every transaction begun, as this module says."""
    event.listen(engine, "connect", _open)
    event.listen(engine, "begin", _begin)


def limit_statements(engine: Engine, seconds: float) -> None:
    """Have SQLite end every statement that runs later than so many seconds after its transaction began."""

    def watch(connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
        connection.set_progress_handler(lambda: time.monotonic() > record.info.get("until", inf), STEPS)

    def begin(connection: Connection) -> None:
        connection.connection.info["until"] = time.monotonic() + seconds

    event.listen(engine, "connect", watch)
    # Before the statement that begins the transaction, which has its own time.
    event.listen(engine, "begin", begin, insert=True)


def _open(connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
    # The driver's own transaction control cannot begin IMMEDIATE: switch it off and begin by hand.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT}")
    _write_ahead(connection)
    path = connection.execute("PRAGMA database_list").fetchone()[2]
    record.info["file"] = path, _identity(path)


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch the file to WAL, if nobody has. Of several who do so at once SQLite fails all but one, without a wait."""
    _when_free(lambda: connection.execute("PRAGMA journal_mode=WAL"))


def _begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    with errors_of(connection.dialect):
        if options.get("begin") == IMMEDIATELY:
            take_turn(connection.connection, lambda driver: driver.execute(IMMEDIATELY), flush=options["flush"])
        else:
            _adjust(connection.connection, synchronous="FULL", busy_timeout=BUSY_TIMEOUT)
            connection.exec_driver_sql("BEGIN")


def take_turn(pooled: PoolProxiedConnection, run: Callable[[sqlite3.Connection], Result], *, flush: bool) -> Result:
    """What `run` returns, which needs the writer's lock. Raises what it raises: after `BUSY_TIMEOUT`, if that is taken.

    SQLite by itself would look for the lock ever more rarely, ten times a second in the end. Beside a process that
    writes all the time, as a worker does with a backlog, that misses most of the moments when it is free.
    """
    driver = _adjust(pooled, synchronous="FULL" if flush else "NORMAL", busy_timeout=0)
    return _when_free(lambda: run(driver))


def _when_free(run: Callable[[], Result]) -> Result:
    """What `run` returns, tried again and again for `BUSY_TIMEOUT` while another process is in the way."""
    end = time.monotonic() + BUSY_TIMEOUT / 1_000
    while True:
        try:
            return run()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
        time.sleep(BUSY_LOOK)


def _adjust(pooled: PoolProxiedConnection, **pragmas: str | int) -> sqlite3.Connection:
    """The driver's connection, as a transaction wants it that is about to begin; the one before may have differed."""
    _check_place(pooled)
    driver = cast("sqlite3.Connection", pooled.driver_connection)
    for name, value in pragmas.items():
        if pooled.info.get(name) != value:
            driver.execute(f"PRAGMA {name}={value}")
            pooled.info[name] = value
    return driver


def _check_place(pooled: PoolProxiedConnection) -> None:
    path, identity = pooled.info["file"]
    if _identity(path) != identity:
        error = sqlite3.OperationalError(MOVED)
        error.sqlite_errorcode = sqlite3.SQLITE_READONLY_DBMOVED
        raise error


def _identity(path: str) -> tuple[int, int] | None:
    """Which file is at this place; None if none is."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def errors_of(dialect: Dialect) -> Iterator[None]:
    """Raise the driver's errors as SQLAlchemy would."""
    try:
        yield
    except sqlite3.Error as error:
        raise DBAPIError.instance(None, None, error, sqlite3.Error, dialect=dialect) from error
