"""The database of the inbox and the mirror: its connections, transactions, and differences between the two systems."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from copy import copy
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import PoolProxiedConnection
from sqlmodel import SQLModel

from receiver.database import postgresql, urls
from receiver.database.errors import SETTING
from receiver.database.postgresql import SERVER_WANTED, TAKES_WRITES
from receiver.database.redaction import has_bare_at_sign
from receiver.database.sqlite import connections as sqlite
from receiver.database.sqlite import wal
from receiver.database.sqlite.checkpoints import Checkpoints
from receiver.errors import ConfigurationError

if TYPE_CHECKING:
    import psycopg

Result = TypeVar("Result")

#: Seconds between two doubts of readers: one who asks for a broken page again and again must not stop the acks.
READERS_DOUBT_PAUSE = 60.0

#: Seconds that opening a PostgreSQL connection may take, so that a database that is away is noticed quickly.
CONNECT_TIMEOUT = 5

#: For libpq: a network that swallows everything is noticed within about this many seconds, on a quiet connection and on
#: one that waits for what it sent to be received. The system's own timeouts are a quarter of an hour and two hours.
KEEP_ALIVE: dict[str, Any] = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}

#: The driver's options by system. A SQLite connection caches few prepared statements, because a multi-row INSERT is
#: large, and a different statement for each number of rows.
CONNECT_ARGUMENTS: dict[str, dict[str, Any]] = {
    "sqlite": {"cached_statements": 48},
    # UTF-8 overrides settings of the role, the database and PGCLIENTENCODING. Of several servers, the driver
    # chooses one that accepts writes, not a standby.
    "postgresql": {
        "connect_timeout": CONNECT_TIMEOUT,
        "client_encoding": "utf8",
        **KEEP_ALIVE,
        SERVER_WANTED: TAKES_WRITES,
    },
}

#: For PostgreSQL, so that a reading transaction sees one snapshot; on SQLite it always does.
READERS_SEE = "REPEATABLE READ"


class Database:
    """One database, shared by everything in this process. Safe to use from several threads."""

    def __init__(self, url: str, *, pool_size: int = 8, setting: str = SETTING) -> None:
        """Opens nothing yet. Raises `ConfigurationError` for a URL that no driver here understands.

        `setting` is where the URL stands, for messages.
        """
        self.engine = _engine(url, pool_size, setting)
        self.setting = setting
        self._others: list[Database] = []
        self.is_postgresql = self.engine.dialect.name == "postgresql"
        #: Shared with the databases made by `beside`, whose writers wait for the same turn and stop at the same errors.
        self._writer = threading.Lock()
        self._care: _Care = _Care()

    def look_after(self) -> None:
        """Start the checkpoints of a SQLite file, and stop writing after its I/O errors from now on.

        Returns once the file is known to be sound, or senders are asked to come back until it is. Raises SQLAlchemy's
        error if it cannot be opened, and `ConfigurationError` if a file beside it cannot.
        """
        if self.is_postgresql or self._care.checkpoints is not None:
            return
        with self.read() as connection:
            path = connection.exec_driver_sql("PRAGMA database_list").all()[0][2]
        try:
            with sqlite.errors_of(self.engine.dialect):
                checkpoints = Checkpoints(path, self._writer)
                checkpoints.start()
        except OSError as error:
            raise _unusable(error, path) from error
        self._care.checkpoints = checkpoints

    @property
    def trouble(self) -> str | None:
        """Describe what a person must do about a SQLite file; None if nothing."""
        if self._care.checkpoints is not None and self._care.checkpoints.is_dead:
            return "The log of the database is no longer copied: restart this process."
        return None

    @property
    def is_sound(self) -> bool:
        """False from an I/O error of SQLite until the file is shown to be sound; no transaction writes meanwhile."""
        return self._care.checkpoints is None or self._care.checkpoints.soundness.holds()

    @property
    def log_bytes(self) -> int:
        """The size of SQLite's write-ahead log on the disk."""
        return 0 if self.is_postgresql else wal.size(self.engine.url.database or "")

    def beside(self, *, connections: int, seconds: float | None = None) -> Database:
        """The same database over at most `connections` connections of its own, reserved for one purpose.

        A statement that takes longer than `seconds` is ended with SQLAlchemy's error. Closed along with this one.
        """
        other = copy(self)
        url = self.engine.url.render_as_string(hide_password=False)
        other.engine = _engine(url, connections, self.setting, overflow=0)
        other._others = []
        if seconds is not None:
            limit = postgresql.limit_statements if self.is_postgresql else sqlite.limit_statements
            limit(other.engine, seconds)
        self._others.append(other)
        return other

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
            # The process that had the turn before may have met an error.
            self._refuse_if_doubtful()
            yield connection

    @property
    def _autocheckpoint(self) -> int:
        """Frames in the log after which SQLite makes a checkpoint itself: 0, never, while our own are made."""
        ours = self._care.checkpoints
        return sqlite.FRAMES_OF_SQLITE if ours is None or ours.is_dead else 0

    @contextmanager
    def _heeding_errors(self) -> Iterator[None]:
        """Hold the turn to write during the block, if the file is sound; an I/O error makes it doubtful."""
        # Checked first, so that a writer does not wait for a hanging disk only to be refused.
        self._refuse_if_doubtful()
        # The turn is given up after the doubt is raised, so that no waiting writer commits in between.
        with self._writer:
            self._refuse_if_doubtful()
            with self._doubting():
                yield

    @contextmanager
    def _doubting(self, *, pause: float = 0.0) -> Iterator[None]:
        """Make the file doubtful after an I/O error inside the block, if the last such doubt is older than `pause`."""
        try:
            yield
        except (DBAPIError, sqlite3.Error) as error:
            # What sets a connection up raises the driver's own errors.
            original = error.orig if isinstance(error, DBAPIError) else error
            if sqlite.is_io_error(original):
                self._care.doubt(pause)
            raise

    def _refuse_if_doubtful(self) -> None:
        if not self.is_sound:
            with sqlite.errors_of(self.engine.dialect):
                raise sqlite.Doubtful

    def run_at_once(self, statement: str, parameters: Sequence[Any], *, after: Sequence[str] = ()) -> list[Any]:
        """Run one statement in the driver's syntax as a transaction by itself, and return its rows after the commit.

        `after` are statements that a connection must have seen before, once. Raises SQLAlchemy's errors. On SQLite it
        goes straight to the driver: a transaction of SQLAlchemy's costs as much as several rows, and lets go of the
        interpreter in between.
        """
        if self.is_postgresql:
            with self.engine.connect() as connection:
                connection = connection.execution_options(isolation_level="AUTOCOMMIT")
                return list(connection.exec_driver_sql(statement, tuple(parameters)))
        with self._turn() as pooled:

            def run(driver: sqlite3.Connection) -> list[Any]:
                if after and pooled.info.get("seen") != after:
                    for each in after:
                        driver.execute(each)
                    pooled.info["seen"] = after
                return driver.execute(statement, parameters).fetchall()

            return self._run_in_turn(pooled, run)

    def shrink(self, pages: int) -> int:
        """Return up to `pages` free pages of a SQLite file to the disk, and return their number; 0 on PostgreSQL."""
        if self.is_postgresql:
            return 0
        with self._turn() as pooled:
            return self._run_in_turn(pooled, lambda driver: sqlite.give_back(driver, pages))

    def _run_in_turn(self, pooled: PoolProxiedConnection, run: Callable[[sqlite3.Connection], Result]) -> Result:
        def run_if_sound(driver: sqlite3.Connection) -> Result:
            # Checked at each attempt, because the process that had the turn before may have met an error.
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
            SQLModel.metadata.create_all(connection)

    def open_session(self) -> psycopg.Connection[Any]:
        """Open a session of PostgreSQL beside the pool, for listening; each statement is a transaction by itself.

        Raises psycopg's error, and `PoolerError` where a pooler gives no sessions.
        """
        return postgresql.open_session(self.engine, connect_arguments(self.engine.url))

    def close(self) -> None:
        checkpoints, self._care.checkpoints = self._care.checkpoints, None
        if checkpoints is not None:
            checkpoints.stop()
        for each in (*self._others, self):
            each.engine.dispose()
        if checkpoints is not None:
            checkpoints.close()


class _Care:
    """The thread that copies the log of a SQLite file, if there is one."""

    checkpoints: Checkpoints | None = None
    _doubted_at = -inf

    def doubt(self, pause: float) -> None:
        """Make the file doubtful, unless that was done in the last `pause` seconds."""
        if self.checkpoints is not None and time.monotonic() - self._doubted_at >= pause:
            self._doubted_at = time.monotonic()
            self.checkpoints.soundness.doubt()


def _unusable(error: OSError, path: str) -> ConfigurationError:
    """Make the error for an unusable file beside the database."""
    return ConfigurationError(
        f"{error.filename or path} cannot be used: {error.strerror or error}. Give it the owner, group and mode of "
        f"{path} with chown and chmod, and the disk some room; if something else has its name, move it away."
    )


def _engine(url: str, pool_size: int, setting: str, *, overflow: int = 4) -> Engine:
    try:
        parsed = urls.parse(url)
        _check(parsed, url, setting)
        options: dict[str, Any] = {
            "pool_size": pool_size,
            "max_overflow": overflow,
            "pool_timeout": CONNECT_TIMEOUT,
            # Parameters contain bodies and decrypted content, which must not be logged.
            "hide_parameters": True,
            # The connection used last has prepared statements and cached pages.
            "pool_use_lifo": True,
            "connect_args": connect_arguments(parsed),
        }
        engine = create_engine(parsed, **options)
    except ImportError as error:
        raise ConfigurationError(
            f"{setting} names PostgreSQL, and its driver is not there ({error}): install it with "
            "`pip install 'psycopg[binary]'`."
        ) from None
    except ArgumentError as error:
        raise ConfigurationError(f"{setting} cannot be used: {error}. Write sqlite:///path or postgresql://…") from None
    except ValueError:
        # The error quotes the supposed port, which may be a part of the password.
        raise ConfigurationError(
            f"{setting} cannot be used: its port is not a number. Write postgresql://user:password@host/db, "
            "with special characters of user and password as %40 and the like."
        ) from None
    if parsed.get_backend_name() == "sqlite":
        sqlite.look_after(engine)
    else:
        postgresql.look_after(engine, setting=setting)
    return engine


def _check(parsed: URL, url: str, setting: str) -> None:
    """Raise `ConfigurationError` for a valid URL that is not supported here."""
    system = parsed.get_backend_name()
    if system == "postgresql" and has_bare_at_sign(url):
        # Otherwise a part of the password would be resolved as a host, and shown in messages about it.
        raise ConfigurationError(
            f"{setting} cannot be used: it has an @ besides the one before the host. Write those of user, password "
            "and query as %40."
        )
    if parsed.drivername not in urls.DRIVERS.values():
        raise ConfigurationError(f"{setting} names `{parsed.drivername}`: use sqlite:///path or postgresql://…")
    if system == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ConfigurationError(f"{setting} keeps everything in memory, where an ack promises nothing: name a file.")


def connect_arguments(url: URL) -> dict[str, Any]:
    """Our settings for the driver. The URL may override which of several servers it chooses."""
    arguments = CONNECT_ARGUMENTS[url.get_backend_name()]
    return {name: value for name, value in arguments.items() if name != SERVER_WANTED or name not in url.query}
