"""Handling: runs handlers and collects their news for the mirror.

It writes nothing, except for handlers that run SQL of their own inside the settling transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from time import perf_counter_ns

from sqlalchemy import Connection, NestedTransaction, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

from receiver.database.database import Database
from receiver.database.errors import is_failed_read, is_lock_timeout, is_transient, retry_transaction
from receiver.database.lock_timeouts import limit_lock_waits
from receiver.errors import HandlerError
from receiver.inbox.attempts import microseconds_since
from receiver.mirror.news import Mirror, ReadRow, SessionRequested, news_of
from receiver.mirror.rows import Key, MirrorRow, Write
from receiver.mirror.unit_of_work import UnitOfWork
from receiver.worker.attempt import Attempt, Guard

#: The number of writes at which a batch is settled before further handlers run.
MOST_WRITES = 5_000

#: The number of handlers to run inside the settling transaction at which a batch is settled, because acks wait for that
#: transaction on SQLite, and each `mirror.get` inside it reads the rows of all news before it.
MOST_INSIDE = 25

#: Seconds that `mirror.get` waits for a lock once another handler of the same batch has waited in vain.
WARY_READ_SECONDS = 0.01

#: PostgreSQL's code of a transaction that takes no further statements, because one failed.
ABORTED = "25P02"


class TransactionEnded(Exception):
    """A handler with a session ended the settling transaction, which must be run again without it."""


class Handling:
    """Runs handlers, each inside the guard that turns an exception into a result."""

    def __init__(
        self,
        database: Database,
        guard: Guard,
        keep_lease: Callable[[], None],
        stopping: Callable[[], bool],
        lock_seconds: Callable[[], float | None] = lambda: None,
    ) -> None:
        """`keep_lease` is called after each handler; once `stopping` says so, no other is begun.

        `lock_seconds` returns the seconds for which `mirror.get` waits for a lock, or None for the session's limit.
        """
        self._database = database
        self._guard = guard
        self._keep_lease = keep_lease
        self._stopping = stopping
        self._lock_seconds = lock_seconds

    def handle(self, attempts: Sequence[Attempt]) -> Sequence[Attempt]:
        """Run the handlers in arrival order and collect their writes. A handler that raises contributes nothing.

        Returns the attempts whose handlers ran: fewer than all if there are many writes, or many handlers that must
        run inside the settling transaction. Raises SQLAlchemy's error if a handler could not read because the database
        itself failed.
        """
        with closing(_Reader(self._database, self._lock_seconds())) as read:
            earlier: list[Write] = []
            #: The sources of handlers whose news is not known yet, because they run inside the settling transaction.
            unknown: set[str] = set()
            inside = 0
            for number, attempt in enumerate(attempts, start=1):
                if not attempt.is_certain and not self._stopping():
                    source = attempt.delivery.source
                    self.run(attempt, earlier, _read_inside if source in unknown else read)
                    if attempt.wants_session:
                        unknown.add(source)
                        inside += 1
                    if read.failed is not None:
                        # The attempt must not count, whatever the handler made of the error.
                        raise read.failed
                    earlier.extend(attempt.writes)
                    self._keep_lease()
                    if len(earlier) >= MOST_WRITES or inside >= MOST_INSIDE:
                        return attempts[:number]
        return attempts

    def run(self, attempt: Attempt, earlier: list[Write], read: ReadRow, session: Session | None = None) -> None:
        """Run one handler, with the writes `earlier` in its batch. Without a session, it may ask for one."""
        assert attempt.handler is not None
        assert attempt.event is not None
        mirror = Mirror(
            source=attempt.delivery.source,
            occurred_at=attempt.event.occurred_at,
            arrival=attempt.delivery.id,
            earlier=earlier,
            read=read,
            session=session,
        )
        attempt.handled = True
        began = perf_counter_ns()
        with self._guard(attempt, attempt.handler.name, in_transaction=session is not None):
            try:
                attempt.handler.run(attempt.event, mirror)
            except SessionRequested:
                attempt.wants_session = True
            except SQLAlchemyError as error:
                # Not an error of another database, whose handler has failed. Inside the settling transaction, the
                # settlement meets the lock, or the failure.
                if not isinstance(read, _Reader) or (error is not read.met and error is not read.failed):
                    raise
                attempt.lock = error if error is read.met else None
            else:
                attempt.writes = news_of(mirror, attempt.delivery.round)
        attempt.has_read = mirror.has_read
        attempt.details.handle_us += microseconds_since(began)

    def run_in_savepoint(self, attempt: Attempt, earlier: list[Write], connection: Connection) -> None:
        """Run one handler inside the settling transaction, with a session. If it fails, its SQL is rolled back.

        Raises `TransactionEnded` if the handler, which has failed then, ended the transaction.
        """

        def read(key: Key, writes: list[Write]) -> MirrorRow | None:
            return UnitOfWork(connection).read(key, writes)

        # The session has a savepoint, too, but a handler may release that one by `session.commit()`.
        ours = connection.begin_nested()
        with (
            _refusing_commits(connection),
            Session(bind=connection, join_transaction_mode="create_savepoint") as session,
        ):
            self.run(attempt, earlier, read, session)
            assert attempt.handler is not None
            with self._guard(attempt, attempt.handler.name, in_transaction=True):
                if attempt.result is None:
                    _finish(session, connection, ours)
            if attempt.result is not None:
                _undo(connection, ours)
        if attempt.result is None:
            ours.commit()


def _read_inside(_key: Key, _writes: list[Write]) -> MirrorRow | None:
    """Let a handler that reads run inside the settling transaction, behind those with news that it must see."""
    raise SessionRequested


#: The message of `TransactionEnded`.
_ENDED = "a handler ended the settling transaction"

#: The reason for the failure of a handler that did not leave the transaction as it found it.
_NOT_ITS_OWN = (
    "It ended the transaction, or left a savepoint open, on the connection of `mirror.session`: do without `commit`, "
    "`rollback`, `close` and `begin_nested` on the connection, and use those of the session."
)


@contextmanager
def _refusing_commits(connection: Connection) -> Iterator[None]:
    """Keep a handler from committing the settling transaction through the connection of its session."""

    def refuse(lent: Connection) -> None:
        # SQLAlchemy regards a transaction as ended once its commit has failed, so the pool would not roll it back.
        lent.dialect.do_rollback(lent.connection)
        raise HandlerError(
            "A handler's SQL is committed with its delivery: do without `commit` on the connection of `mirror.session`."
        )

    event.listen(connection, "commit", refuse)
    try:
        yield
    finally:
        event.remove(connection, "commit", refuse)


def _finish(session: Session, connection: Connection, ours: NestedTransaction) -> None:
    """Write what the session holds, and release its savepoint. Raises `HandlerError` if ours is not the last one."""
    if not ours.is_active:
        raise HandlerError(_NOT_ITS_OWN)
    try:
        session.commit()
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != ABORTED:
            raise
        raise HandlerError(
            "A statement failed, and PostgreSQL takes no further ones: catch errors of the database only inside "
            "`with mirror.session.begin_nested():`."
        ) from None
    if connection.get_nested_transaction() is not ours:
        raise HandlerError(_NOT_ITS_OWN)


def _undo(connection: Connection, ours: NestedTransaction) -> None:
    """Roll back to our savepoint. Raises `TransactionEnded` if it no longer exists."""
    if not ours.is_active or connection.closed or connection.invalidated:
        raise TransactionEnded(_ENDED)
    try:
        while (inner := connection.get_nested_transaction()) is not None and inner is not ours:
            inner.rollback()
        ours.rollback()
    except SQLAlchemyError as error:
        if is_transient(error):
            raise
        raise TransactionEnded(_ENDED) from error


class _Reader:
    """Reads rows for `mirror.get` on one snapshot of the database, opened at the first read.

    A read that loses its connection is repeated, on another snapshot.
    """

    def __init__(self, database: Database, lock_seconds: float | None) -> None:
        self._database = database
        #: The seconds for which a read waits for a lock; None for the limit of its session.
        self._lock_seconds = lock_seconds
        #: The last error about a lock that another session holds, and that of the database itself.
        self.met: SQLAlchemyError | None = None
        self.failed: SQLAlchemyError | None = None
        self._stack = ExitStack()
        self._connection: Connection | None = None

    def __call__(self, key: Key, writes: list[Write]) -> MirrorRow | None:
        try:
            return retry_transaction(lambda: self._read(key, writes))
        except SQLAlchemyError as error:
            if is_lock_timeout(error):
                self.met, self._lock_seconds = error, WARY_READ_SECONDS
            elif is_failed_read(error):
                self.failed = error
            raise

    def _read(self, key: Key, writes: list[Write]) -> MirrorRow | None:
        try:
            return UnitOfWork(self._opened()).read(key, writes)
        except SQLAlchemyError as error:
            # PostgreSQL takes no further statement in this transaction, so the next read begins another one.
            self._connection = None
            with suppress(SQLAlchemyError):
                self._stack.__exit__(type(error), error, error.__traceback__)
            raise

    def _opened(self) -> Connection:
        if self._connection is None:
            self._connection = self._stack.enter_context(self._database.read())
            if self._lock_seconds is not None:
                limit_lock_waits(self._connection, self._lock_seconds)
        return self._connection

    def close(self) -> None:
        self._connection = None
        # Nothing was written, so that nothing is lost with the connection.
        with suppress(SQLAlchemyError):
            self._stack.close()
