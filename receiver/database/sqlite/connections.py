"""How a connection to SQLite is set up: its transactions, its turn with the one writer, and its file.

SQLite takes one writer at a time. Inside a process the writers queue on a lock of ours (`database.py`); the first
of them polls whether another process is done writing, bounded by `BUSY_TIMEOUT` (docs/decisions/0014).
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import inf
from typing import TypeVar, cast

from sqlalchemy import Connection, Dialect, Engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

Result = TypeVar("Result")

#: Milliseconds that a transaction waits for another process's writer before it gives up, and seconds between two polls
#: whether that one is done.
BUSY_TIMEOUT, BUSY_LOOK = 5_000, 0.001

#: How a transaction of SQLite begins that writes.
IMMEDIATELY = "BEGIN IMMEDIATE"

#: Instructions of SQLite's between two checks whether a statement has taken too long: well below a millisecond.
STEPS = 20_000

#: SQLite continues to write to a file that was moved or removed, so that acked webhooks would be lost with it.
MOVED = "the file was moved or removed while it was open"

#: After an I/O error, earlier writes may be lost, although a later flush succeeds.
DOUBTFUL = "after an error of the disk the database is not yet shown to be sound"

#: Bytes of the log that stay on the disk when it begins anew; what it had grown beyond is given back.
LOG_LIMIT = 64 << 20

#: The share of a file's pages that may be free.
FREE = 0.1

#: Frames in the log after which SQLite itself makes a checkpoint, inside a commit, where `Checkpoints` does not.
FRAMES_OF_SQLITE = 1_000

#: How many connections this process has to a file, by its path.
_open_connections: Counter[str] = Counter()


class Doubtful(sqlite3.OperationalError):
    """A write is refused after an I/O error."""

    sqlite_errorcode = sqlite3.SQLITE_IOERR

    def __init__(self) -> None:
        super().__init__(DOUBTFUL)


def look_after(engine: Engine) -> None:
    """Have every connection of this engine opened, and every transaction begun, as this module says."""
    event.listen(engine, "do_connect", _make)
    event.listen(engine, "connect", _open)
    event.listen(engine, "close", _note_closed)
    event.listen(engine, "begin", _begin)


def limit_statements(engine: Engine, seconds: float) -> None:
    """Make SQLite end statements that still run `seconds` after the beginning of their transaction."""

    def watch(connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
        connection.set_progress_handler(lambda: time.monotonic() > record.info.get("until", inf), STEPS)

    def begin(connection: Connection) -> None:
        connection.connection.info["until"] = time.monotonic() + seconds

    event.listen(engine, "connect", watch)
    # Before the statement that begins the transaction, which has its own time.
    event.listen(engine, "begin", begin, insert=True)


@contextmanager
def ending_statements(pooled: PoolProxiedConnection, seconds: float) -> Iterator[None]:
    """Make SQLite end a statement of the block that still runs `seconds` after now.

    Where the connection's statements are limited anyway, the earlier moment counts.
    """
    driver = cast("sqlite3.Connection", pooled.driver_connection)
    limited = pooled.info.get("until")
    until = min(time.monotonic() + seconds, inf if limited is None else limited)
    if limited is None:
        driver.set_progress_handler(lambda: time.monotonic() > until, STEPS)
    pooled.info["until"] = until
    try:
        yield
    finally:
        if limited is None:
            driver.set_progress_handler(None, 0)
            del pooled.info["until"]
        else:
            pooled.info["until"] = limited


def is_open(path: str) -> bool:
    """Whether a connection of this process has this file open."""
    return _open_connections[path] > 0


def _make(_dialect: Dialect, _record: ConnectionPoolEntry, arguments: list[str], _named: dict[str, object]) -> None:
    """Make a file that is not there: for its owner alone, and so will be the files that SQLite makes beside it."""
    # Only if it is not there, because closing a file drops the locks of other connections.
    with suppress(OSError):
        os.close(os.open(arguments[0], os.O_CREAT | os.O_EXCL, 0o600))


def _open(connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
    _set_up(connection)
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT}")
    path = connection.execute("PRAGMA database_list").fetchone()[2]
    record.info["file"] = path, _identity(path)
    _open_connections[path] += 1


def _note_closed(_connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
    path, _ = record.info.pop("file", (None, None))
    if path is not None:
        _open_connections[path] -= 1


def connect(path: str) -> sqlite3.Connection:
    """A connection outside of any pool, for one thread at a time, without waits for locks and without checkpoints."""
    connection = sqlite3.connect(path, timeout=0, check_same_thread=False)
    _set_up(connection)
    connection.execute("PRAGMA wal_autocheckpoint=0")
    _open_connections[path] += 1
    return connection


def disconnect(connection: sqlite3.Connection, path: str) -> None:
    """Close what `connect` has opened."""
    connection.close()
    _open_connections[path] -= 1


def _set_up(connection: sqlite3.Connection) -> None:
    # The driver's own transaction control cannot begin IMMEDIATE: switch it off and begin by hand.
    connection.isolation_level = None
    # Only of a file that has nothing in it yet: elsewhere it is a write, which would wait for other writers.
    if not connection.execute("PRAGMA page_count").fetchone()[0]:
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
    _write_ahead(connection)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA journal_size_limit={LOG_LIMIT}")


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch the file to WAL if it is not. SQLite fails all but one that do so at once, without a wait."""
    when_free(lambda: connection.execute("PRAGMA journal_mode=WAL"))


def _begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    with errors_of(connection.dialect):
        if options.get("begin") == IMMEDIATELY:
            take_turn(connection.connection, lambda driver: driver.execute(IMMEDIATELY), options["autocheckpoint"])
        else:
            _adjust(connection.connection, busy_timeout=BUSY_TIMEOUT)
            connection.exec_driver_sql("BEGIN")


def take_turn(
    pooled: PoolProxiedConnection, run: Callable[[sqlite3.Connection], Result], autocheckpoint: int
) -> Result:
    """Call `run`, which needs the writer's lock, and return its result. Raises its error, after `BUSY_TIMEOUT` if busy.

    SQLite by itself would look for the lock ever more rarely, ten times a second in the end. Beside a process that
    writes all the time, as a worker does with a backlog, that misses most of the moments when it is free.
    """
    driver = _adjust(pooled, busy_timeout=0, wal_autocheckpoint=autocheckpoint)
    return when_free(lambda: run(driver))


def when_free(run: Callable[[], Result]) -> Result:
    """What `run` returns, tried again and again for `BUSY_TIMEOUT` while another process is in the way."""
    end = time.monotonic() + BUSY_TIMEOUT / 1_000
    while True:
        try:
            return run()
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > end:
                raise
        time.sleep(BUSY_LOOK)


def is_busy(error: sqlite3.Error) -> bool:
    """Whether the error means that another connection held a lock."""
    return _code(error) == sqlite3.SQLITE_BUSY


def is_io_error(error: BaseException | None) -> bool:
    """Whether the system could not read or write, or flush: what was written before may be lost, too."""
    if not isinstance(error, sqlite3.Error) or isinstance(error, Doubtful):
        return False
    # SQLite calls a database corrupt where the system could not read it (EIO), too.
    return _code(error) in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT)


def give_back(driver: sqlite3.Connection, pages: int) -> int:
    """Give at most `pages` free pages back to the disk, if much of the file is free, and return their number.

    Some free pages stay for the next rows. A file that was made without `auto_vacuum` keeps all its pages.
    """
    free, all_pages = (driver.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_count"))
    given = min(pages, free - int(all_pages * FREE))
    if given <= 0:
        return 0
    # As a script, since the driver ends a statement without columns after its first step, which is one page.
    driver.executescript(f"PRAGMA incremental_vacuum({given})")
    return int(free - driver.execute("PRAGMA freelist_count").fetchone()[0])


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


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
