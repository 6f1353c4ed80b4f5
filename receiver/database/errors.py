"""Classifies errors of the database: whether to retry, what caused them, and what a person can do."""

from __future__ import annotations

import random
import re
import sqlite3
import time
from collections.abc import Callable
from typing import TypeGuard, TypeVar

from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    ProgrammingError,
    SQLAlchemyError,
    StatementError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from receiver.database import urls
from receiver.database.advice import NO_FREE_CONNECTION, NO_WRITES, advise
from receiver.database.redaction import redacted, shown
from receiver.logs.safe_text import told
from receiver.settings.settings import load

Result = TypeVar("Result")

#: How many times a transaction is run again, and the longest wait before the first repetition in seconds, which doubles
#: each time.
RUNS_AGAIN, FIRST_WAIT = 5, 0.01

#: PostgreSQL's codes for a sound transaction that should be run again.
RETRYABLE_STATES = frozenset({"40001", "40P01"})

#: SQLite's result codes for a file that no statement can use.
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

#: PostgreSQL's classes of errors that fail every statement: connections, read-only, missing tables and rights,
#: resources, shutdown, system.
POSTGRESQL_TROUBLE = frozenset({"08", "25", "28", "3D", "42", "53", "57", "58"})

#: PostgreSQL's code of a server that accepts no writes: a standby, or a demoted server.
READ_ONLY = "25006"

#: PostgreSQL's code of a role that lacks a right, or to which row-level security applies.
LACK_OF_RIGHTS = "42501"

#: PostgreSQL's code of a server, a role or a database with as many connections as it may have.
TOO_MANY_CONNECTIONS = "53300"

#: The word before a server's reason for a refused connection, in libpq's messages.
REFUSED_BY_SERVER = "FATAL: "

#: PostgreSQL's classes and codes of errors of a connection, and of a server that shuts down.
OF_THE_CONNECTION = ("08", "57P", READ_ONLY)

#: PostgreSQL's classes of refused values: data, constraints, views, program limits, and errors raised by triggers.
REFUSED_VALUES = frozenset({"22", "23", "44", "54", "P0"})

#: Python's errors for a value that has another type or form than expected.
OF_WRONG_VALUES = (ValueError, TypeError, ArithmeticError, AttributeError, LookupError)

#: PostgreSQL's code of a wait for a lock over its time limit, or of a lock that is not free for `NOWAIT`.
LOCK_NOT_FREE = "55P03"

#: PostgreSQL's codes of a statement, and of a wait for a lock, over their time limits.
OVERDUE = frozenset({"57014", LOCK_NOT_FREE})

#: The beginning of every sentence about a lock that another session holds.
LOCK_HELD = "Another session of the database holds"

#: The description for all of an error that no other one fits.
NO_DATABASE = "The database does not answer."

#: The default name of the setting with a database's URL, for messages.
SETTING = "HOOKMIRROR_DATABASE_URL"


def retry_transaction(
    transaction: Callable[[], Result],
    *,
    again: int = RUNS_AGAIN,
    first_wait: float = FIRST_WAIT,
    wait: Callable[[float], object] = time.sleep,
    jitter: Callable[[], float] = random.random,
) -> Result:
    """Run the transaction, again up to `again` times after a transient error, and return its result.

    Before each repetition, `wait` is called with seconds: up to `first_wait`, and up to twice as many each further
    time. Raises SQLAlchemy's error otherwise. A repetition must read the database again, because an earlier run may
    have been committed.
    """
    for chance in range(again):
        try:
            return transaction()
        except SQLAlchemyError as error:
            if not is_transient(error):
                raise
            # The wait is random, and longer at each try, so that two transactions do not collide again.
            wait(first_wait * 2**chance * jitter())
    return transaction()


def is_transient(error: BaseException) -> bool:
    """Whether the error is transient, so that the same transaction may succeed when run again."""
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated or getattr(error.orig, "sqlstate", None) in RETRYABLE_STATES:
        return True
    return isinstance(error.orig, sqlite3.OperationalError) and (error.orig.sqlite_errorcode & 0xFF) in (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    )


def is_of_the_connection(error: BaseException | None) -> bool:
    """Whether another connection may succeed, because the server of this connection shuts down or accepts no writes.

    This happens in a failover, after which the address leads to another server.
    """
    return str(getattr(error, "sqlstate", None)).startswith(OF_THE_CONNECTION)


def is_read_only(error: BaseException) -> bool:
    """Whether the database refuses writes, although it may be readable."""
    original = getattr(error, "orig", None) or error
    if isinstance(original, sqlite3.Error):
        return getattr(original, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY
    return getattr(original, "sqlstate", None) == READ_ONLY or NO_WRITES in str(original)


def is_lack_of_rights(error: BaseException) -> bool:
    """Whether PostgreSQL refuses this role a right on a table, or row-level security applies to the role."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) == LACK_OF_RIGHTS


def is_lack_of_connections(error: BaseException) -> bool:
    """Whether PostgreSQL has no connection left for this role."""
    original = getattr(error, "orig", None) or error
    state = getattr(original, "sqlstate", None)
    # Errors of opening a connection have no code.
    return state == TOO_MANY_CONNECTIONS or (
        state is None and any(each in str(original) for each in NO_FREE_CONNECTION)
    )


def is_refused_connection(error: BaseException) -> bool:
    """Whether PostgreSQL answered, and refused to open a connection."""
    original = getattr(error, "orig", None)
    return getattr(original, "sqlstate", None) is None and REFUSED_BY_SERVER in str(original)


def is_answer(error: BaseException) -> TypeGuard[DBAPIError]:
    """Whether the database itself raised the error, so that it can be reached."""
    original = getattr(error, "orig", None)
    if isinstance(original, sqlite3.Error):
        return True
    return getattr(original, "sqlstate", None) is not None and not is_of_the_connection(original)


def is_infrastructure_error(error: BaseException) -> bool:
    """Whether the database as a whole fails (away, full, read-only, damaged), and not one statement's values."""
    if not isinstance(error, SQLAlchemyError) or is_transient(error):
        return isinstance(error, SQLAlchemyError)
    if not isinstance(error, DBAPIError):
        # Other errors of SQLAlchemy concern one use of it, such as a value that a user's column type cannot convert.
        return isinstance(error, (PoolTimeoutError, DisconnectionError))
    if isinstance(error, DataError):
        return False
    if isinstance(error.orig, sqlite3.Error):
        return (getattr(error.orig, "sqlite_errorcode", 0) & 0xFF) in SQLITE_TROUBLE
    state = getattr(error.orig, "sqlstate", None)
    return state is None or state[:2] in POSTGRESQL_TROUBLE


def is_of_moved_files(error: BaseException) -> bool:
    """Whether files of a SQLite database were moved, removed or replaced while this process has it open."""
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", None)
    return bool(code == sqlite3.SQLITE_READONLY_DBMOVED)


def is_failed_read(error: BaseException) -> bool:
    """Whether a handler's read failed because the database itself did, and not because of what the handler asked."""
    # A handler may ask by an id that the driver does not take, or for a table that is missing.
    return is_infrastructure_error(error) and not isinstance(error, ProgrammingError)


def is_overdue(error: BaseException) -> bool:
    """Whether a statement was ended because it, or its wait for a lock, took longer than its connection allows."""
    original = getattr(error, "orig", None)
    if isinstance(original, sqlite3.Error):
        return getattr(original, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_INTERRUPT
    return getattr(original, "sqlstate", None) in OVERDUE


def is_lock_timeout(error: BaseException) -> bool:
    """Whether another session of PostgreSQL held a lock for longer than the statement may wait for it."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) == LOCK_NOT_FREE


def locked_table(error: BaseException) -> str:
    """The table of the row that another session holds, as PostgreSQL names it; empty if it holds another lock."""
    context = getattr(getattr(getattr(error, "orig", None), "diag", None), "context", None)
    found = _IN_RELATION.search(context or "")
    return found[1] if found else ""


def explain_lock(error: BaseException) -> str:
    """Say which lock another session holds, and how to find that session."""
    table = locked_table(error)
    return f"{LOCK_HELD} {f'a row of `{table}`' if table else 'a lock'}. {_END_SESSION}"


def is_fault_of_values(error: BaseException) -> bool:
    """Whether the database or its driver refuses the values of a row, so that this row fails again and others do not.

    Any other error may be temporary, so the row may be stored later.
    """
    if isinstance(error, (DataError, IntegrityError)):
        return True
    if isinstance(error, DBAPIError):
        return str(getattr(error.orig, "sqlstate", None))[:2] in REFUSED_VALUES
    if isinstance(error, StatementError):
        # A column type, perhaps a user's, cannot convert a value.
        return error.orig is not None and not isinstance(error.orig, (SQLAlchemyError, MemoryError))
    # Drivers, the column types here and the code that makes a row raise these: for a number too large, for text that
    # cannot be encoded, or for a value of another type.
    return isinstance(error, OF_WRONG_VALUES) and not isinstance(error, SQLAlchemyError)


def describe_for_all(error: SQLAlchemyError) -> str:
    """Describe an error of the database in one sentence, without the hosts and users that drivers' messages name."""
    if is_lack_of_connections(error):
        return (
            "The database has no free connection: close other connections, or raise `max_connections` of the server "
            "or the limit of the role or of the database."
        )
    if isinstance(error, PoolTimeoutError):
        return "All connections of this process are in use: the database is too slow, or another session holds a lock."
    if is_read_only(error):
        return "The database can be read, but not written."
    if is_overdue(error) or (is_transient(error) and not getattr(error, "connection_invalidated", False)):
        return "The database cannot be written now: another session holds a lock."
    if is_lack_of_rights(error):
        return "The database refuses this process a right on its tables: run `hookmirror doctor`, which names it."
    if is_refused_connection(error):
        return "The database refuses the connections of this process: run `hookmirror doctor`, which says why."
    if not is_answer(error):
        return NO_DATABASE
    if isinstance(error.orig, sqlite3.Error) and is_infrastructure_error(error):
        return "The file of the database cannot be used: run `hookmirror doctor`, which says why."
    return "The database answers with an error: run `hookmirror doctor`, and look into the log of this process."


def explain_by_settings(error: BaseException) -> str:
    """Describe an error of the database in the settings, as `explain` does."""
    settings = load()
    return explain(error, settings.database_url, setting=settings.place_of("database_url"))


def explain(error: BaseException, url: str, *, setting: str = SETTING) -> str:
    """Describe an error of the database, and what to do, in one line; `setting` is the setting with the URL."""
    parsed = urls.parse(url)
    reason = redacted(_reason(error), parsed)
    advice = advise(error, reason, parsed).replace("{setting}", setting)
    return f"The database {shown(parsed)} cannot be used: {reason}. {advice}"


def _reason(error: BaseException) -> str:
    """The first line of an error; if several servers failed, the line of each."""
    lines = str(getattr(error, "orig", None) or error).splitlines()
    tried = [line.rpartition("connection failed: ")[2] for line in lines if line.startswith("- host: ")]
    return "; ".join(tried) or told(error)


_IN_RELATION = re.compile(r'in relation "([^"]+)"')

_END_SESSION = (
    "Find it with `SELECT pid, usename, application_name, state, xact_start, query FROM pg_stat_activity WHERE "
    "xact_start IS NOT NULL ORDER BY xact_start`, and end its transaction, or the session with `SELECT "
    "pg_terminate_backend(pid)`."
)
