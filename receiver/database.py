"""The database behind the inbox and the mirror: connections, transactions, and what differs between the two systems.

SQLite takes one writer at a time. Inside a process the writers queue on a lock; the first of them looks often whether
another process is done writing, bounded by `BUSY_TIMEOUT` (docs/decisions/0014).
"""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Dialect, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection
from sqlmodel import SQLModel

from receiver.errors import ConfigurationError

Result = TypeVar("Result")

#: Milliseconds that a transaction waits for another process's writer before it gives up, and seconds between two looks
#: whether that one is done.
BUSY_TIMEOUT, BUSY_LOOK = 5_000, 0.001

#: Seconds that opening a PostgreSQL connection may take, so that a database that is away is noticed quickly.
CONNECT_TIMEOUT = 5

#: For libpq: a network that swallows everything is noticed within about this many seconds, on a quiet connection and on
#: one that waits for what it sent to be received. The system's own patience is a quarter of an hour, and two hours.
KEEP_ALIVE: dict[str, Any] = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}

#: The same seen from the server, which else would keep the locks of a machine that vanished; and so would a process
#: that stands still in the middle of a transaction.
SESSION_LIMITS = (
    "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 -c tcp_user_timeout=25000 "
    "-c idle_in_transaction_session_timeout=60000"
)

#: By system, what the driver is told. A SQLite connection keeps few prepared statements: a multi-row INSERT is another
#: one for each number of rows, and large.
CONNECT_ARGUMENTS: dict[str, dict[str, Any]] = {
    "sqlite": {"cached_statements": 48},
    # Whatever the server's own settings say. UTC, because in other zones the times at the ends of the calendar cannot
    # be read back; an ack is a promise; and who has waited for a lock must see what its last holder did, so writers
    # look anew with each statement.
    "postgresql": {
        "connect_timeout": CONNECT_TIMEOUT,
        **KEEP_ALIVE,
        "options": "-c timezone=UTC -c synchronous_commit=on -c default_transaction_isolation=read\\ committed "
        + SESSION_LIMITS,
    },
}

#: How a transaction of SQLite begins that writes.
IMMEDIATELY = "BEGIN IMMEDIATE"

#: On PostgreSQL, where that is not so by itself: readers see one state throughout.
READERS_SEE = "REPEATABLE READ"

#: How often a transaction is run again, and the seconds to wait before the first time at most; doubled each time.
RUNS_AGAIN, FIRST_WAIT = 5, 0.01

#: PostgreSQL's word for: nothing is wrong with the transaction, run it again.
RETRYABLE_STATES = frozenset({"40001", "40P01"})

#: SQLite's result codes for a file that cannot be used, whatever the statement.
SQLITE_TROUBLE = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
    }
)

#: PostgreSQL's classes of the same: connections, read-only, missing tables and rights, resources, shutdown, system.
POSTGRESQL_TROUBLE = frozenset({"08", "25", "28", "3D", "42", "53", "57", "58"})

#: SQLite goes on writing to a file that is no longer at its place, and so would acks be lost with it.
MOVED = "the file was moved or removed while it was open"

#: Where a database's URL stands, unless a message is told otherwise.
SETTING = "HOOKMIRROR_DATABASE_URL"

#: By what a URL begins with: the driver that is used.
DRIVERS = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
}


class Database:
    """One database, shared by everything in this process. Safe to use from several threads."""

    def __init__(self, url: str, *, pool_size: int = 8, setting: str = SETTING) -> None:
        """Opens nothing yet. Raises `ConfigurationError` for a URL that no driver here understands.

        `setting` is where the URL stands, for messages.
        """
        self.engine = _engine(url, pool_size, setting)
        self.setting = setting
        self.is_postgresql = self.engine.dialect.name == "postgresql"
        self._writer = threading.Lock()

    @contextmanager
    def write(self, *, flush: bool = True) -> Iterator[Connection]:
        """A transaction that writes: committed at the end, rolled back if anything raises.

        Without `flush`, SQLite does not wait for the disk. The next transaction that does takes this one along; a
        machine that loses its power before may forget it, a process that ends does not. PostgreSQL always waits,
        since there a server that crashes would forget it too.
        """
        if self.is_postgresql:
            with self.engine.begin() as connection:
                yield connection
            return
        options: dict[str, Any] = {"begin": IMMEDIATELY, "flush": flush}
        with self._writer, self.engine.connect() as connection, connection.execution_options(**options).begin():
            yield connection

    def run_at_once(self, statement: str, parameters: Sequence[Any], *, after: Sequence[str] = ()) -> list[Any]:
        """The rows of one statement in the driver's own words that is a transaction by itself: committed on return.

        `after` are statements that a connection must have seen before, once. Raises SQLAlchemy's errors. On SQLite it
        goes straight to the driver: a transaction of SQLAlchemy's costs as much as several rows, and lets go of the
        interpreter in between.
        """
        if self.is_postgresql:
            with self.engine.connect() as connection:
                connection = connection.execution_options(isolation_level="AUTOCOMMIT")
                return list(connection.exec_driver_sql(statement, tuple(parameters)))
        with _as_sqlalchemy_s(self.engine.dialect), self._writer, closing(self.engine.raw_connection()) as pooled:

            def run(driver: sqlite3.Connection) -> list[Any]:
                if after and pooled.info.get("seen") != after:
                    for each in after:
                        driver.execute(each)
                    pooled.info["seen"] = after
                return driver.execute(statement, parameters).fetchall()

            return _take_turn(pooled, run, flush=True)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads, and sees one state of the database throughout."""
        options = {"isolation_level": READERS_SEE} if self.is_postgresql else {}
        with self.engine.connect() as connection, connection.execution_options(**options).begin():
            yield connection

    def create_tables(self) -> None:
        """Create what is missing of the tables of every imported module."""
        with self.write() as connection:
            SQLModel.metadata.create_all(connection)

    def ping(self) -> None:
        """Raises SQLAlchemy's error if the database does not answer."""
        with self.read() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        self.engine.dispose()


def insist(
    transaction: Callable[[], Result],
    *,
    again: int = RUNS_AGAIN,
    first_wait: float = FIRST_WAIT,
    wait: Callable[[float], object] = time.sleep,
    luck: Callable[[], float] = random.random,
) -> Result:
    """What the transaction returns; it is run up to `again` times more, when that may well be all it takes.

    Before each, `wait` is called with seconds: up to `first_wait`, and twice as many each time. Raises SQLAlchemy's
    error otherwise. It must find out anew what there is to do: it may have been committed already.
    """
    for chance in range(again):
        try:
            return transaction()
        except SQLAlchemyError as error:
            if not is_transient(error):
                raise
            # Two that met must not meet again: not both at once, and later each time.
            wait(first_wait * 2**chance * luck())
    return transaction()


def is_transient(error: BaseException) -> bool:
    """Whether the same transaction may well succeed if it is simply run again."""
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated or getattr(error.orig, "sqlstate", None) in RETRYABLE_STATES:
        return True
    return isinstance(error.orig, sqlite3.OperationalError) and (error.orig.sqlite_errorcode & 0xFF) in (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    )


def is_trouble_of_ours(error: BaseException) -> bool:
    """Whether the database as a whole is in trouble (away, full, read-only, damaged), not one statement's values."""
    if not isinstance(error, SQLAlchemyError) or is_transient(error):
        return isinstance(error, SQLAlchemyError)
    if not isinstance(error, DBAPIError):
        return True
    if isinstance(error, DataError):
        return False
    if isinstance(error.orig, sqlite3.Error):
        return (getattr(error.orig, "sqlite_errorcode", 0) & 0xFF) in SQLITE_TROUBLE
    state = getattr(error.orig, "sqlstate", None)
    return state is None or state[:2] in POSTGRESQL_TROUBLE


def explain(error: BaseException, url: str, *, setting: str = SETTING) -> str:
    """One line for a person: what is wrong with the database, and what to do; `setting` is where the URL stands."""
    shown = make_url(url).render_as_string(hide_password=True)
    reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    advice = next((mend for symptom, mend in _ADVICE if symptom in reason.lower()), "Check {setting}.")
    return f"The database {shown} cannot be used: {reason}. {advice.format(setting=setting)}"


_ADVICE = (
    (MOVED, "Put it back; or stop every process that has it open, and start them again."),
    ("unable to open database file", "Create its folder, or give this user the right to write there."),
    ("read-only transaction", "Name the primary server in {setting}, not a copy of it."),
    ("lock timeout", "Somebody holds a table that is to be changed: end what does, or run this again when it has."),
    ("readonly", "Give this user the right to write the file and its folder."),
    ("read-only", "Give this user the right to write the file and its folder."),
    ("disk is full", "Free some space on its disk; nothing that was acked is lost."),
    ("disk i/o error", "Look at its disk: is there space left, and may this user write there?"),
    ("not a database", "The file is something else: name another in {setting}."),
    ("malformed", "The file is damaged: restore it from a backup."),
    ("locked", "Another program holds it: stop that one, or wait."),
    ("refused", "Start PostgreSQL, or correct host and port in {setting}."),
    ("password authentication", "Correct user and password in {setting}."),
    ("does not exist", "Create it, or correct its name in {setting}."),
    ("permission denied", "Give this user the rights it needs: see docs/deployment.md."),
)


def _engine(url: str, pool_size: int, setting: str) -> Engine:
    try:
        parsed = make_url(url)
        driver = DRIVERS.get(parsed.drivername, "")
        system = driver.partition("+")[0]
        if not driver:
            raise ConfigurationError(f"{setting} names `{parsed.drivername}`: use sqlite:///path or postgresql://…")
        if system == "sqlite" and parsed.database in (None, "", ":memory:"):
            raise ConfigurationError(
                f"{setting} keeps everything in memory, where an ack promises nothing: name a file."
            )
        options: dict[str, Any] = {
            "pool_size": pool_size,
            "max_overflow": 4,
            "pool_timeout": CONNECT_TIMEOUT,
            # Parameters are bodies and what they decrypt to, which have no place in a log.
            "hide_parameters": True,
            # The connection used last has its statements prepared and its pages at hand.
            "pool_use_lifo": True,
            "connect_args": _connect_arguments(system, parsed.query.get("options", "")),
        }
        engine = create_engine(parsed.set(drivername=driver), **options)
    except ImportError as error:
        raise ConfigurationError(
            f"{setting} names PostgreSQL, and its driver is not there ({error}): install it with "
            "`pip install 'psycopg[binary]'`."
        ) from None
    except ArgumentError as error:
        raise ConfigurationError(f"{setting} cannot be used: {error}. Write sqlite:///path or postgresql://…") from None
    except ValueError:
        # The error quotes what was taken for a port, which may be a part of the password.
        raise ConfigurationError(
            f"{setting} cannot be used: its port is no number. Write postgresql://user:password@host/db, "
            "with special characters of user and password as %40 and the like."
        ) from None
    if system == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _connect_arguments(system: str, wanted: str | tuple[str, ...]) -> dict[str, Any]:
    """Ours, with the session options that the URL names (a search path, say) before them."""
    arguments = CONNECT_ARGUMENTS[system]
    if not wanted or "options" not in arguments:
        return arguments
    named = wanted if isinstance(wanted, str) else " ".join(wanted)
    return arguments | {"options": f"{named} {arguments['options']}"}


def _prepare_sqlite(connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
    # The driver's own transaction control cannot begin IMMEDIATE: switch it off and begin by hand.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT}")
    _write_ahead(connection)
    path = connection.execute("PRAGMA database_list").fetchone()[2]
    record.info["file"] = path, _identity(path)


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch the file to WAL, if nobody has. Of several who do so at once SQLite fails all but one, without a wait."""
    _when_free(lambda: connection.execute("PRAGMA journal_mode=WAL"))


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    with _as_sqlalchemy_s(connection.dialect):
        if options.get("begin") == IMMEDIATELY:
            _take_turn(connection.connection, lambda driver: driver.execute(IMMEDIATELY), flush=options["flush"])
        else:
            _adjust(connection.connection, synchronous="FULL", busy_timeout=BUSY_TIMEOUT)
            connection.exec_driver_sql("BEGIN")


def _take_turn(pooled: PoolProxiedConnection, run: Callable[[sqlite3.Connection], Result], *, flush: bool) -> Result:
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
def _as_sqlalchemy_s(dialect: Dialect) -> Iterator[None]:
    """Raise the driver's errors as SQLAlchemy would."""
    try:
        yield
    except sqlite3.Error as error:
        raise DBAPIError.instance(None, None, error, sqlite3.Error, dialect=dialect) from error
