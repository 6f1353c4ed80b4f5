"""The database of the inbox and the mirror: its connections, transactions, and differences between the two systems."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from copy import copy
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, event, inspect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection
from sqlmodel import SQLModel

from receiver.database import postgresql, urls
from receiver.database.announcements import NOTIFY, Announcements
from receiver.database.engines import connect_arguments, open_engine
from receiver.database.errors import SETTING
from receiver.database.snapshots import Snapshot
from receiver.database.sockets import OpenSocket
from receiver.database.sqlite import connections as sqlite
from receiver.database.sqlite import wal
from receiver.database.sqlite.checkpoints import Checkpoints
from receiver.errors import ConfigurationError
from receiver.system_limits import explain_limit

if TYPE_CHECKING:
    import psycopg

Result = TypeVar("Result")

#: Seconds between two doubts raised by readers, because a client that repeats the read of a broken page must not stop
#: the acks.
READERS_DOUBT_PAUSE = 60.0

#: The isolation level of reads on PostgreSQL, so that a transaction sees one snapshot; on SQLite it always does.
READERS_SEE = "REPEATABLE READ"


class Database:
    """One database, shared by everything in this process. Safe to use from several threads."""

    def __init__(self, url: str, *, pool_size: int = 8, setting: str = SETTING) -> None:
        """Open no connection yet. Raises `ConfigurationError` for a URL that no installed driver understands.

        `setting` is the setting with the URL, for messages.
        """
        self.engine = open_engine(url, pool_size, setting)
        self.setting = setting
        self._others: list[Database] = []
        self.is_postgresql = self.engine.dialect.name == "postgresql"
        #: The path of a SQLite file as SQLite names it, which puts its other files beside the target of a link.
        self._path = "" if self.is_postgresql else os.path.realpath(urls.path_of(self.engine.url))
        #: Shared with the databases that `beside` makes: their writers wait for the same turn, and stop at the same
        #: errors.
        self._writer = threading.Lock()
        self._care: _Care = _Care()
        #: Over a connection of this database's, also for those that `beside` makes.
        self._announcements = Announcements(partial(self.run_at_once, NOTIFY, ()))
        self.snapshot = Snapshot()

    def look_after(self) -> None:
        """Start the checkpoints of a SQLite file, and stop writing after its I/O errors from now on.

        Returns once the file is known to be sound, or is marked as doubtful, so that senders are asked to retry. Raises
        SQLAlchemy's error if the file cannot be opened, and `ConfigurationError` if a file beside it cannot.
        """
        if self.is_postgresql or self._care.checkpoints is not None:
            return
        with self.read() as connection:
            path = connection.exec_driver_sql("PRAGMA database_list").all()[0][2]
        try:
            with sqlite.errors_of(self.engine.dialect):
                checkpoints = Checkpoints(path, self._writer)
                try:
                    checkpoints.start()
                except BaseException:
                    checkpoints.close()
                    raise
        except OSError as error:
            raise _unusable(error, path) from error
        self._care.checkpoints = checkpoints

    @property
    def trouble(self) -> str | None:
        """Describe the failure of a SQLite file that a person must repair; None without one."""
        if self._care.checkpoints is not None and self._care.checkpoints.is_dead:
            return "The log of the database is no longer copied: restart this process."
        return None

    @property
    def is_sound(self) -> bool:
        """Whether transactions may write: False after an I/O error of SQLite until the file is proved sound."""
        return self._care.checkpoints is None or self._care.checkpoints.soundness.holds()

    @property
    def log_bytes(self) -> int:
        """The size of SQLite's write-ahead log on the disk."""
        return 0 if self.is_postgresql else wal.size(self._path)

    @property
    def log_stamp(self) -> tuple[int, int] | None:
        """A value that changes when any process writes to a SQLite file; None on PostgreSQL.

        The times of files are coarse, so two writes within a few milliseconds may share a value.
        """
        return None if self.is_postgresql else wal.stamp(self._path)

    def beside(self, *, connections: int, seconds: float | None = None, lock_seconds: float | None = None) -> Database:
        """Return the same database with at most `connections` connections of its own, reserved for one purpose.

        A statement that takes longer than `seconds` ends with SQLAlchemy's error, and on PostgreSQL also one that waits
        for a lock for longer than `lock_seconds`. The result is closed along with this database.
        """
        other = copy(self)
        url = self.engine.url.render_as_string(hide_password=False)
        other.engine = open_engine(url, connections, self.setting, overflow=0)
        other._others, other.snapshot = [], Snapshot()
        if seconds is not None:
            limit = postgresql.limit_statements if self.is_postgresql else sqlite.limit_statements
            limit(other.engine, seconds)
        if lock_seconds is not None and self.is_postgresql:
            postgresql.limit_locks(other.engine, lock_seconds)
        self._others.append(other)
        return other

    def new_ending(self) -> Callable[[], None]:
        """Make a function that ends the only connection of this database, for a statement that hangs.

        The statement fails with SQLAlchemy's error of a lost connection. The function may be called in any thread, and
        does nothing on SQLite. It must be made before the first connection.
        """
        return OpenSocket(self.engine).shut_down if self.is_postgresql else lambda: None

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes: committed and flushed at the end, rolled back if anything raises."""
        if self.is_postgresql:
            with self.engine.begin() as connection:
                yield connection
            return
        options: dict[str, Any] = {"begin": sqlite.IMMEDIATELY, "autocheckpoint": self._autocheckpoint}
        with (
            self._heeding_errors(),
            self.engine.connect() as connection,
            connection.execution_options(**options).begin(),
        ):
            # The process that had the previous turn may have met an error.
            self._refuse_if_doubtful()
            yield connection

    @property
    def _autocheckpoint(self) -> int:
        """Frames in the log after which SQLite itself makes a checkpoint; 0 for never, while ours are made."""
        ours = self._care.checkpoints
        return sqlite.FRAMES_OF_SQLITE if ours is None or ours.is_dead else 0

    @contextmanager
    def _heeding_errors(self) -> Iterator[None]:
        """Hold the turn to write during the block, if the file is sound; an I/O error makes it doubtful."""
        # Checked first, so that a writer is refused without waiting for a hanging disk.
        self._refuse_if_doubtful()
        # The turn ends after the doubt is raised, so that no waiting writer commits in between.
        with self._writer:
            self._refuse_if_doubtful()
            with self._doubting():
                yield
            self._check_files()

    def _check_files(self) -> None:
        """Raise SQLite's error if a file was moved or removed during the transaction, which may be lost with it."""
        if self._care.checkpoints is not None:
            with sqlite.errors_of(self.engine.dialect):
                self._care.checkpoints.check_files()

    @contextmanager
    def _doubting(self, *, pause: float = 0.0) -> Iterator[None]:
        """Make the file doubtful after an I/O error inside the block, if the last such doubt is older than `pause`."""
        try:
            yield
        except (DBAPIError, sqlite3.Error) as error:
            # Setting up a connection raises the driver's own errors.
            original = error.orig if isinstance(error, DBAPIError) else error
            if sqlite.is_io_error(original):
                self._care.doubt(pause)
            raise

    def _refuse_if_doubtful(self) -> None:
        if not self.is_sound:
            with sqlite.errors_of(self.engine.dialect):
                raise sqlite.Doubtful

    def run_at_once(self, statement: str, parameters: Sequence[Any]) -> list[Any]:
        """Run one statement in the driver's syntax as a transaction by itself, and return its rows after the commit."""
        if self.is_postgresql:
            return postgresql.run_at_once(self.engine, statement, parameters)
        with self._turn() as pooled:
            return self._run_in_turn(pooled, lambda driver: driver.execute(statement, parameters).fetchall())

    def run_together(self, statements: Sequence[tuple[str, Sequence[Any]]]) -> None:
        """Run statements in the driver's syntax as one transaction of a SQLite file. Raises SQLAlchemy's errors."""

        # Straight on the driver, because a transaction of SQLAlchemy's costs as much as several rows.
        def run(driver: sqlite3.Connection) -> None:
            driver.execute(sqlite.IMMEDIATELY)
            try:
                self._refuse_if_doubtful()
                for statement, parameters in statements:
                    driver.execute(statement, parameters)
                driver.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    driver.execute("ROLLBACK")
                raise

        with self._turn() as pooled:
            self._run_in_turn(pooled, run)

    def shrink(self, pages: int) -> int:
        """Return up to `pages` free pages of a SQLite file to the disk, and return their number; 0 on PostgreSQL."""
        if self.is_postgresql:
            return 0
        with self._turn() as pooled:
            return self._run_in_turn(pooled, lambda driver: sqlite.give_back(driver, pages))

    def _run_in_turn(self, pooled: PoolProxiedConnection, run: Callable[[sqlite3.Connection], Result]) -> Result:
        def run_if_sound(driver: sqlite3.Connection) -> Result:
            # Checked at each attempt, because the process that had the previous turn may have met an error.
            self._refuse_if_doubtful()
            return run(driver)

        return sqlite.take_turn(pooled, run_if_sound, self._autocheckpoint)

    @contextmanager
    def _turn(self) -> Iterator[PoolProxiedConnection]:
        """Hold a connection to a SQLite file, and the turn of this process's writers."""
        with (
            self._heeding_errors(),
            sqlite.errors_of(self.engine.dialect),
            closing(self.engine.raw_connection()) as pooled,
        ):
            yield pooled

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads, on one snapshot of the database.

        An I/O error makes a SQLite file doubtful, as in `write`. A doubtful file can still be read.
        """
        if self.snapshot.connection is not None:
            yield self.snapshot.connection
            return
        options = {"isolation_level": READERS_SEE} if self.is_postgresql else {}
        with (
            self._doubting(pause=READERS_DOUBT_PAUSE),
            self.engine.connect() as connection,
            connection.execution_options(**options).begin(),
        ):
            yield connection

    def create_tables(self) -> None:
        """Create the missing tables of every imported module."""
        with self.write() as connection:
            # SQLAlchemy would ask for each table by itself.
            present = set(inspect(connection).get_table_names())
            missing = [each for each in SQLModel.metadata.sorted_tables if each.name not in present]
            SQLModel.metadata.create_all(connection, tables=missing)

    def open_session(self) -> psycopg.Connection[Any]:
        """Open a session of PostgreSQL beside the pool, for listening; each statement is a transaction by itself.

        Raises psycopg's error, and `PoolerError` where a pooler gives no sessions.
        """
        return postgresql.open_session(self.engine, connect_arguments(self.engine.url))

    def announce(self) -> None:
        """Notify the workers of other processes on PostgreSQL, soon, of deliveries that this process has accepted.

        On SQLite they watch the file.
        """
        if self.is_postgresql:
            self._announcements.announce()

    def close(self) -> None:
        """Close every connection; one that a thread still uses is closed when the thread returns it."""
        self._announcements.stop()
        checkpoints, self._care.checkpoints = self._care.checkpoints, None
        if checkpoints is not None:
            checkpoints.stop()
        for each in (*self._others, self):
            event.listen(each.engine, "checkin", _close_returned)
            each.engine.dispose()
        if checkpoints is not None:
            checkpoints.close()


def _close_returned(_connection: object, record: ConnectionPoolEntry) -> None:
    record.close()


class _Care:
    """Holds the thread that copies the log of a SQLite file, and raises doubts about the file."""

    checkpoints: Checkpoints | None = None
    _doubted_at = -inf

    def doubt(self, pause: float) -> None:
        """Make the file doubtful, unless that was done in the last `pause` seconds."""
        if self.checkpoints is not None and time.monotonic() - self._doubted_at >= pause:
            self._doubted_at = time.monotonic()
            self.checkpoints.soundness.doubt()


def _unusable(error: OSError, path: str) -> ConfigurationError:
    """Make the error for an unusable file beside the database."""
    reached = explain_limit(error)
    if reached is not None:
        return ConfigurationError(f"{error.filename or path} cannot be opened. {reached}")
    return ConfigurationError(
        f"{error.filename or path} cannot be used ({error.strerror or error}): give it the owner, group and mode of "
        f"{path} with chown and chmod, and free some space on the disk; if another file has its name, move that away."
    )
