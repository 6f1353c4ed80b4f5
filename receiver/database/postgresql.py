"""Sets up connections to PostgreSQL, and drops those that lead to the wrong server.

A connection may lead to a server that no longer takes writes, since after a failover the same address leads to another
one; and it may lead to a pooler that gives every transaction another session (docs/decisions/0023).
"""

from __future__ import annotations

import selectors
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DisconnectionError

from receiver.database.errors import SETTING, is_of_the_connection
from receiver.errors import PoolerError

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.pq.abc import PGconn

log = structlog.get_logger(__name__)

#: What every session is set to, whatever the server's own settings say, and whether or not a pooler in between passes
#: options on. UTC, because in other zones the times at the ends of the calendar cannot be read back; an ack is a
#: promise; and who has waited for a lock must see what its last holder did, so writers look anew with each statement.
#: The others let the server notice that a machine vanished, or that a process stands still inside a transaction, which
#: else would keep their locks; in seconds, milliseconds, seconds.
SESSION = {
    "timezone": "UTC",
    "synchronous_commit": "on",
    "default_transaction_isolation": "read committed",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "25000",
    "idle_in_transaction_session_timeout": "60000",
}

#: In one statement, so that a new connection costs one journey more and not eight.
_GREETING = "SELECT pg_backend_pid(), " + ", ".join(
    f"set_config('{name}', '{value}', false)" for name, value in SESSION.items()
)

#: libpq's option for the choice among several servers, and its value for one that accepts writes.
SERVER_WANTED, TAKES_WRITES = "target_session_attrs", "read-write"

#: The parameter by which a server reports a change, from PostgreSQL 14 on: whether it accepts no writes.
DEMOTED = (b"in_hot_standby", b"default_transaction_read_only")

#: How many transactions on each of two connections it takes to detect a pooler of transactions.
SESSION_TRIALS = 5

#: Seconds that the second of them may take to open, and either one for an answer.
PROBE_TIMEOUT = 5


def look_after(engine: Engine, *, setting: str = SETTING) -> None:
    """Set up every connection of this engine, and drop it once it leads to the wrong server.

    The first connection raises `PoolerError` if it leads to a pooler of transactions; `setting` is where the URL
    stands.
    """
    greeter = Greeter(setting)
    # Before SQLAlchemy's own first questions, which a pooler of statements refuses.
    event.listen(engine, "connect", lambda connection, _: greeter.greet(connection), insert=True)
    event.listen(engine, "handle_error", _drop)
    if engine.url.query.get(SERVER_WANTED, TAKES_WRITES) == TAKES_WRITES:
        event.listen(engine, "checkout", _leave_demoted)


def limit_statements(engine: Engine, seconds: float) -> None:
    """Set the time limit of statements and of waits for locks on PostgreSQL."""

    def limit(connection: Any, _: object) -> None:
        milliseconds = int(seconds * 1_000)
        for name in ("statement_timeout", "lock_timeout"):
            connection.execute(f"SET {name} = {milliseconds}")
        connection.commit()

    event.listen(engine, "connect", limit)


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
        """Set up the session behind psycopg's connection, just opened."""
        autocommit, connection.autocommit = connection.autocommit, True
        try:
            session = connection.execute(_GREETING).fetchall()[0][0]
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

    False, with a line in the log, if a second connection cannot be had.
    """
    import psycopg

    info = connection.info
    same: dict[str, Any] = {**info.get_parameters(), "password": info.password, "connect_timeout": PROBE_TIMEOUT}
    try:
        with closing(psycopg.connect(**same, autocommit=True)) as other:
            had = [(_session(connection.pgconn), _session(other.pgconn)) for _ in range(SESSION_TRIALS)]
    except (psycopg.OperationalError, TimeoutError) as error:
        log.warning("cannot find out whether the pooler shares sessions", error=str(error).strip().splitlines()[0])
        return False
    ours, theirs = map(set, zip(*had, strict=True))
    return len(ours) > 1 or len(theirs) > 1 or ours == theirs


def _session(connection: PGconn) -> bytes:
    """The server's process id in one transaction. Raises `TimeoutError` without an answer within `PROBE_TIMEOUT`.

    Asked past the driver, which waits without a bound: a pooler without a session to spare lets everybody in.
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


def _leave_demoted(connection: Connection[Any], *_: object) -> None:
    """Make the pool replace a connection whose server was demoted meanwhile.

    A worker that finds nothing to do only reads, and would read there for ever: there is nothing new any more.
    """
    if any(connection.pgconn.parameter_status(name) == b"on" for name in DEMOTED):
        raise DisconnectionError("its server takes no writes any more")


def _drop(context: ExceptionContext) -> None:
    """Make the pool drop its connections, because all lead to the wrong server if one does."""
    if context.connection is not None and is_of_the_connection(context.original_exception):
        context.is_disconnect = True
