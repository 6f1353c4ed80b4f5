"""Sets up connections to SQLite: their transactions, their turns as the one writer, and the check of their file.

SQLite allows one writer at a time. The writers of a process queue on a lock (`database.py`); the first in the queue
polls until no other process writes, for `BUSY_TIMEOUT` at most (docs/decisions/0014).
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import inf
from typing import TypeVar, cast

from sqlalchemy import Connection, Dialect, Engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from receiver.database.sqlite import files
from receiver.database.sqlite.stored_types import read_any_value
from receiver.database.urls import path_in_uri

Result = TypeVar("Result")

#: Milliseconds that a transaction waits for the writer of another process, and seconds between two polls during the
#: wait.
BUSY_TIMEOUT, BUSY_LOOK = 5_000, 0.001

#: The statement that begins a writing transaction of SQLite.
IMMEDIATELY = "BEGIN IMMEDIATE"

#: Instructions of SQLite's between two checks whether a statement has taken too long: well below a millisecond.
STEPS = 20_000

#: After an I/O error, earlier writes may be lost, although a later flush succeeds.
DOUBTFUL = "after an error of the disk the database is not yet shown to be sound"

#: The size in bytes to which a larger log is truncated when it starts over.
LOG_LIMIT = 64 << 20

#: The share of a file's pages that may be free.
FREE = 0.1

#: The parameters of a URI that open a file only if it is there.
OF_PRESENT_FILES = ("mode=ro", "mode=rw")

#: Frames in the log after which SQLite itself makes a checkpoint, within a commit, if `Checkpoints` does not run.
FRAMES_OF_SQLITE = 1_000


class Doubtful(sqlite3.OperationalError):
    """Raised for a write while the file is doubtful, after an I/O error."""

    sqlite_errorcode = sqlite3.SQLITE_IOERR

    def __init__(self) -> None:
        super().__init__(DOUBTFUL)


def look_after(engine: Engine) -> None:
    """Set up every connection and begin every transaction of this engine by the functions of this module."""
    read_any_value(engine)
    event.listen(engine, "do_connect", _make)
    event.listen(engine, "connect", _open)
    event.listen(engine, "close", _note_closed)
    # The pool does not tell when a detached connection is closed.
    event.listen(engine, "detach", _note_closed)
    event.listen(engine, "begin", _begin)


def limit_statements(engine: Engine, seconds: float) -> None:
    """Make SQLite end statements that still run `seconds` after the beginning of their transaction."""

    def watch(connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
        connection.set_progress_handler(lambda: time.monotonic() > record.info.get("until", inf), STEPS)

    def begin(connection: Connection) -> None:
        connection.connection.info["until"] = time.monotonic() + seconds

    event.listen(engine, "connect", watch)
    # Runs before the statement that begins the transaction, which has a time limit of its own.
    event.listen(engine, "begin", begin, insert=True)


@contextmanager
def ending_statements(pooled: PoolProxiedConnection, seconds: float) -> Iterator[None]:
    """Make SQLite end a statement of the block that still runs `seconds` after now.

    If the connection limits its statements already, the earlier of the two moments counts.
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


def _make(_dialect: Dialect, _record: ConnectionPoolEntry, arguments: list[str], named: dict[str, object]) -> None:
    """Create a missing file with access for its owner alone, which SQLite copies to its own files beside it.

    Raises SQLite's error if this process has the database open and a file was removed: SQLite would make another one.
    """
    given = arguments[0]
    path = os.path.realpath(path_in_uri(given) if named.get("uri") else given)
    if files.is_open(path):
        files.check(path)
    if named.get("uri") and given.partition("?")[2] in OF_PRESENT_FILES:
        return
    # An existing file is not opened, because closing it would drop the locks of other connections.
    with suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))


def _open(connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
    _set_up(connection)
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT}")
    path = connection.execute("PRAGMA database_list").fetchone()[2]
    record.info["file"] = path
    files.note_opened(path)


def _note_closed(_connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
    path = record.info.pop("file", None)
    if path is not None:
        files.note_closed(path)


def connect(path: str) -> sqlite3.Connection:
    """Open a connection outside of the pool, for one thread at a time, without waits for locks or checkpoints."""
    connection = sqlite3.connect(path, timeout=0, check_same_thread=False)
    try:
        _set_up(connection)
        connection.execute("PRAGMA wal_autocheckpoint=0")
    except BaseException:
        connection.close()
        raise
    files.note_opened(path)
    return connection


def disconnect(connection: sqlite3.Connection, path: str) -> None:
    """Close what `connect` has opened."""
    # Noted before, because SQLite removes the log with the last connection, and another one may be opened meanwhile.
    files.note_closed(path)
    connection.close()


def _set_up(connection: sqlite3.Connection) -> None:
    # The driver's own transaction control cannot begin IMMEDIATE: switch it off and begin by hand.
    connection.isolation_level = None
    # Only for an empty file: in any other file the setting is a write, which would wait for other writers.
    if not connection.execute("PRAGMA page_count").fetchone()[0]:
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
    _write_ahead(connection)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA journal_size_limit={LOG_LIMIT}")


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch the file to WAL. Of several connections that do so at the same time, SQLite lets only one succeed."""
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

    SQLite itself polls for the lock less and less often, in the end ten times a second. It would miss most of the
    moments at which the lock is free while another process writes without a pause, such as a worker with a backlog.
    """
    driver = _adjust(pooled, busy_timeout=0, wal_autocheckpoint=autocheckpoint)
    return when_free(lambda: run(driver))


def when_free(run: Callable[[], Result]) -> Result:
    """Call `run` and return its result, again for up to `BUSY_TIMEOUT` while another process holds the lock."""
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
    """Whether the system failed to read, write or flush, so that earlier writes may be lost, too."""
    if not isinstance(error, sqlite3.Error) or isinstance(error, Doubtful):
        return False
    # SQLite also reports a failed read of the system (EIO) as a corrupt database.
    return _code(error) in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT)


def is_of_the_disk(error: Exception) -> bool:
    """Whether the system failed to read, write or flush a file: by SQLite's error, or by its own."""
    return isinstance(error, OSError) or is_io_error(error)


def give_back(driver: sqlite3.Connection, pages: int) -> int:
    """Return at most `pages` free pages to the disk, if much of the file is free, and return their number.

    Some free pages stay for the next rows. A file that was made without `auto_vacuum` keeps all its pages.
    """
    free, all_pages = (driver.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_count"))
    given = min(pages, free - int(all_pages * FREE))
    if given <= 0:
        return 0
    # Run as a script, because the driver stops a statement without columns after its first step, which frees one page.
    driver.executescript(f"PRAGMA incremental_vacuum({given})")
    return int(free - driver.execute("PRAGMA freelist_count").fetchone()[0])


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _adjust(pooled: PoolProxiedConnection, **pragmas: str | int) -> sqlite3.Connection:
    """Return the driver's connection with these settings, which may differ from those of its last transaction."""
    files.check(pooled.info["file"])
    driver = cast("sqlite3.Connection", pooled.driver_connection)
    for name, value in pragmas.items():
        if pooled.info.get(name) != value:
            driver.execute(f"PRAGMA {name}={value}")
            pooled.info[name] = value
    return driver


@contextmanager
def errors_of(dialect: Dialect) -> Iterator[None]:
    """Raise the driver's errors as SQLAlchemy would."""
    try:
        yield
    except sqlite3.Error as error:
        raise DBAPIError.instance(None, None, error, sqlite3.Error, dialect=dialect) from error
