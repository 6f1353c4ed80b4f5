"""Sets up connections to PostgreSQL, and drops those that their server has closed, or that lead to the wrong server.

A connection may lead to a server that no longer accepts writes, because after a failover the same address leads to
another server. It may also lead to a pooler that gives every transaction another session (docs/decisions/0023).
"""

from __future__ import annotations

import select
import selectors
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

import structlog
from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.pool import PoolProxiedConnection

from receiver.database.byte_arrays import write_byte_arrays
from receiver.database.calendar import read_any_time
from receiver.database.errors import SETTING, is_of_the_connection
from receiver.database.search_paths import replace_lacking
from receiver.errors import PoolerError

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.pq.abc import PGconn

log = structlog.get_logger(__name__)

#: The most seconds that a statement waits for one lock, unless its connection or its transaction has another limit.
LOCK_SECONDS = 3

#: The settings of every session, whatever the server's own settings are, and whether or not a pooler passes options on.
#: UTC, because other zones cannot represent the times at the ends of the calendar. Synchronous commits, because an ack
#: is a promise. Read committed, so that a writer that has waited for a lock sees the changes of its last holder. No row
#: security: a policy then fails the statement, instead of hiding deliveries from a worker (docs/decisions/0057). The
#: forms of dates, intervals, bytes, numbers, texts and names that the driver and SQLAlchemy read. No time limits of the
#: role's, because a batch or a migration that takes longer would fail each time. A bound of waits for locks, because
#: another program may hold a row for hours (docs/decisions/0062). The last settings let the server
#: detect a machine that vanished, or a process that hangs inside a transaction, whose locks it would otherwise keep; in
#: seconds, the last two in milliseconds.
SESSION = {
    "timezone": "UTC",
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
    "statement_timeout": "0",
    "lock_timeout": f"{LOCK_SECONDS}s",
    "synchronous_commit": "on",
    "default_transaction_isolation": "read committed",
    "row_security": "off",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "25000",
    "idle_in_transaction_session_timeout": "60000",
}

#: Time limits that later servers have, by the number of their first release: of idle sessions, which wait in the pool,
#: and of whole transactions.
LATER_LIMITS = {140_000: "idle_session_timeout", 170_000: "transaction_timeout"}

#: Chooses the compression of values of more than 2 kB, such as bodies, if the server offers it and nobody chose one:
#: the usual one takes half of the server's time for such a body (docs/decisions/0058).
COMPRESS_BY_LZ4 = (
    "(SELECT set_config(name, 'lz4', false) FROM pg_settings "
    "WHERE name = 'default_toast_compression' AND source = 'default' AND 'lz4' = ANY (enumvals))"
)

#: Further settings of sessions with a time limit, because webhooks are acked beside them. The parallel workers of one
#: statement could occupy every core, and compiling a short statement takes longer than running it.
#: Each plan is made for its values, because sources differ a lot in their numbers of deliveries.
BESIDE_ACKS = {"max_parallel_workers_per_gather": "0", "jit": "off", "plan_cache_mode": "force_custom_plan"}


def _setting(values: Mapping[str, str], *first: str) -> str:
    """One statement for all settings, so that a new connection costs one further round trip instead of eight."""
    return "SELECT " + ", ".join(
        [*first, *(f"set_config('{name}', '{value}', false)" for name, value in values.items())]
    )


def _greeting(release: int) -> str:
    """The statement that sets up a session of a server of this release, and asks for its process id."""
    limits = {name: "0" for first, name in LATER_LIMITS.items() if release >= first}
    return _setting({**SESSION, **limits}, "pg_backend_pid()", COMPRESS_BY_LZ4)


#: The option of a statement whose results come in the binary format: bytes are twice as long as text, and are parsed.
BINARY_RESULTS = "binary_results"

#: libpq's status of a connection without a transaction.
WITHOUT_TRANSACTION = 0

#: libpq's option for choosing among several servers, and its value for a server that accepts writes.
SERVER_WANTED, TAKES_WRITES = "target_session_attrs", "read-write"

#: The parameters by which a server reports, from PostgreSQL 14 on, that it no longer accepts writes.
DEMOTED = (b"in_hot_standby", b"default_transaction_read_only")

#: The most reports of a server that are read from an idle connection to find its end behind them.
MOST_REPORTS = 8

#: The number of transactions on each of two connections by which a pooler of transactions is detected.
SESSION_TRIALS = 5

#: Seconds in which the second connection must open, and in which each of the two must answer.
PROBE_TIMEOUT = 5


def look_after(engine: Engine, *, setting: str = SETTING) -> None:
    """Set up every connection of this engine, and drop it once it leads to the wrong server.

    The first connection raises `PoolerError` if it leads to a pooler of transactions; `setting` names the URL's setting
    in messages.
    """
    greeter = Greeter(setting)
    # Runs before SQLAlchemy's own first queries, which a pooler of statements refuses.
    event.listen(engine, "connect", lambda connection, _: greeter.greet(connection), insert=True)
    event.listen(engine, "connect", lambda connection, _: read_any_time(connection))
    event.listen(engine, "connect", lambda connection, _: write_byte_arrays(connection))
    engine.dialect.execution_ctx_cls = _with_binary_results(engine.dialect.execution_ctx_cls)
    event.listen(engine, "handle_error", _drop)
    event.listen(engine, "checkout", _leave_closed)
    if engine.url.query.get(SERVER_WANTED, TAKES_WRITES) == TAKES_WRITES:
        event.listen(engine, "checkout", _leave_demoted)


def _with_binary_results(usual: type[Any]) -> type[Any]:
    """SQLAlchemy's class of statements that run, with results in the binary format for a statement that asks for it.

    A class, because a listener of SQLAlchemy's makes every statement take longer.
    """

    class Running(usual):  # type: ignore[misc]
        def create_default_cursor(self) -> Any:
            if BINARY_RESULTS in self.execution_options:
                return self._dbapi_connection.cursor(binary=True)
            return super().create_default_cursor()

    return Running


#: Each connection of readers prepares a statement at its second use, and keeps this many prepared. The pages and lists
#: have about 140 statements; with fewer places, they would be dropped before they come again.
PREPARED_AT, MOST_PREPARED = 1, 300


def limit_statements(engine: Engine, seconds: float) -> None:
    """Set the time limit of statements on PostgreSQL, and keep statements to one core.

    A wait for a lock ends earlier if the limit is longer than `LOCK_SECONDS`, so that its error names the lock.

    The statements are prepared, because planning many of them takes longer than running them.
    """

    def prepare(connection: Any, _: object) -> None:
        connection.prepare_threshold, connection.prepared_max = PREPARED_AT, MOST_PREPARED

    event.listen(engine, "connect", prepare)
    milliseconds, locked = (str(int(limit * 1_000)) for limit in (seconds, min(seconds, LOCK_SECONDS)))
    _set_at_connect(engine, {"statement_timeout": milliseconds, "lock_timeout": locked, **BESIDE_ACKS})


def limit_locks(engine: Engine, seconds: float) -> None:
    """Set the time limit of waits for locks on PostgreSQL, after which a statement ends with SQLAlchemy's error."""
    _set_at_connect(engine, {"lock_timeout": str(int(seconds * 1_000))})


def _set_at_connect(engine: Engine, values: Mapping[str, str]) -> None:
    """Make each connection of this engine begin with these settings of the session."""

    def begin(connection: Any, _: object) -> None:
        connection.execute(_setting(values))
        connection.commit()

    event.listen(engine, "connect", begin)


def run_at_once(engine: Engine, statement: str, parameters: Sequence[Any]) -> list[Any]:
    """Run one statement in the driver's syntax as a transaction by itself, and return its rows after the commit.

    Straight on the driver, because a connection of SQLAlchemy's costs as much as several rows. Raises SQLAlchemy's
    errors; a connection that leads to the wrong server, or nowhere, is dropped.
    """
    with closing(_pooled(engine)) as pooled:
        driver, is_lost = cast("Connection[Any]", pooled.driver_connection), False
        driver.autocommit = True
        try:
            return driver.execute(statement, parameters).fetchall()
        except driver.Error as error:
            replace_lacking(pooled, error)
            is_lost = is_of_the_connection(error) or engine.dialect.is_disconnect(cast("Any", error), pooled, None)
            raise _error_of_sqlalchemy(engine, error, is_lost=is_lost) from error
        finally:
            # After an interrupted wait the statement still runs, and the connection can do nothing else.
            if is_lost or driver.pgconn.transaction_status != WITHOUT_TRANSACTION:
                pooled.invalidate()
            else:
                driver.autocommit = False


def _pooled(engine: Engine) -> PoolProxiedConnection:
    """Take a connection from the pool, which itself raises the driver's errors."""
    try:
        return engine.raw_connection()
    except _errors_of_driver(engine) as error:
        raise _error_of_sqlalchemy(engine, error, is_lost=False) from error


def _error_of_sqlalchemy(engine: Engine, error: Exception, *, is_lost: bool) -> BaseException:
    """SQLAlchemy's error for an error of the driver, without the statement and its parameters."""
    return DBAPIError.instance(
        None, None, error, _errors_of_driver(engine), connection_invalidated=is_lost, dialect=engine.dialect
    )


def _errors_of_driver(engine: Engine) -> type[Exception]:
    return cast("Any", engine.dialect.loaded_dbapi).Error  # type: ignore[no-any-return]


def open_session(engine: Engine, arguments: Mapping[str, Any]) -> Connection[Any]:
    """Open a session beside the engine's pool, set up like those of the pool, in autocommit mode."""
    import psycopg

    positional, named = engine.dialect.create_connect_args(engine.url)
    connection = psycopg.connect(*positional, **{**named, **arguments}, autocommit=True)
    Greeter().greet(connection)
    return connection


class Greeter:
    """Sets up sessions, and checks once whether a pooler shares them. Thread-safe."""

    def __init__(self, setting: str = SETTING) -> None:
        self._setting = setting
        self._known = threading.Event()

    def greet(self, connection: Connection[Any]) -> None:
        """Set up the session of a psycopg connection that was just opened."""
        autocommit, connection.autocommit = connection.autocommit, True
        try:
            session = connection.execute(_greeting(connection.info.server_version)).fetchall()[0][0]
            # A server reports its process id when the connection opens; a pooler invents one.
            if session != connection.info.backend_pid and not self._known.is_set():
                self._demand_sessions(connection)
            self._known.set()
            connection.autocommit = autocommit
        except BaseException:
            connection.close()
            raise

    def _demand_sessions(self, connection: Connection[Any]) -> None:
        if shares_sessions(connection):
            raise PoolerError(
                f"{self._setting} leads to a pooler that pools transactions, such as PgBouncer, where no session is "
                "our own: set its pool_mode to `session`, or name PostgreSQL's own address and port."
            )


def shares_sessions(connection: Connection[Any]) -> bool:
    """Whether transactions of two connections meet in one session of the server, or move from one to another.

    Logs a warning and returns False if no second connection can be opened.
    """
    import psycopg

    info = connection.info
    same: dict[str, Any] = {**info.get_parameters(), "password": info.password, "connect_timeout": PROBE_TIMEOUT}
    try:
        with closing(psycopg.connect(**same, autocommit=True)) as other:
            had = [(_session(connection.pgconn), _session(other.pgconn)) for _ in range(SESSION_TRIALS)]
    except (psycopg.OperationalError, TimeoutError) as error:
        log.warning("cannot check whether the pooler shares sessions", error=str(error).strip().splitlines()[0])
        return False
    ours, theirs = map(set, zip(*had, strict=True))
    return len(ours) > 1 or len(theirs) > 1 or ours == theirs


def _session(connection: PGconn) -> bytes:
    """The server's process id in one transaction. Raises `TimeoutError` without an answer within `PROBE_TIMEOUT`.

    The query bypasses the driver, which would wait without a bound: a pooler accepts connections even if no session is
    free.
    """
    connection.send_query(b"SELECT pg_backend_pid()")
    end = time.monotonic() + PROBE_TIMEOUT
    number = b""
    with selectors.DefaultSelector() as selector:
        selector.register(connection.socket, selectors.EVENT_READ)
        while True:
            while connection.is_busy():
                if not selector.select(end - time.monotonic()):
                    raise TimeoutError("it gave no session in time")
                connection.consume_input()
            result = connection.get_result()
            if result is None and number:
                return number
            if result is None:
                raise TimeoutError("it ended instead of giving a session")
            number = result.get_value(0, 0) or number


def _leave_closed(connection: Connection[Any], *_: object) -> None:
    """Make the pool replace a connection that its server has closed meanwhile, as at a restart.

    Otherwise each connection that was idle then would fail one statement, hours later, for a server that is well. An
    idle connection has nothing to read except such an end, and what the server reports by itself.
    """
    from psycopg import OperationalError

    driver, waiting = connection.pgconn, select.poll()
    try:
        waiting.register(driver.socket, select.POLLIN)
        for _report in range(MOST_REPORTS):
            if not waiting.poll(0):
                return
            driver.consume_input()
    except OperationalError as error:
        raise DisconnectionError("its server has closed it") from error


def _leave_demoted(connection: Connection[Any], *_: object) -> None:
    """Make the pool replace a connection whose server was demoted.

    An idle worker only reads, and would read from the demoted server for ever without finding new deliveries.
    """
    if any(connection.pgconn.parameter_status(name) == b"on" for name in DEMOTED):
        raise DisconnectionError("its server no longer accepts writes")


def _drop(context: ExceptionContext) -> None:
    """Make the pool drop all its connections, because all lead to the wrong server if one of them does."""
    if context.connection is None:
        return
    if is_of_the_connection(context.original_exception):
        context.is_disconnect = True
    else:
        replace_lacking(context.connection.connection, context.original_exception)
