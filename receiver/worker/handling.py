"""Handling: runs handlers and collects their news for the mirror. It writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from time import perf_counter_ns

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from receiver.database.database import Database
from receiver.inbox.attempts import microseconds_since
from receiver.mirror.rows import Key, Mirror, MirrorRow, ReadRow, SessionRequested, Write
from receiver.mirror.unit_of_work import UnitOfWork
from receiver.worker.attempt import Attempt, Guard

#: The number of writes at which a batch is settled before further handlers run.
MOST_WRITES = 5_000


class Handling:
    """Runs handlers, each inside the guard that turns an exception into a result."""

    def __init__(
        self, database: Database, guard: Guard, keep_lease: Callable[[], None], stopping: Callable[[], bool]
    ) -> None:
        """`keep_lease` is called after each handler; once `stopping` says so, no other is begun."""
        self._database = database
        self._guard = guard
        self._keep_lease = keep_lease
        self._stopping = stopping

    def handle(self, attempts: Sequence[Attempt]) -> Sequence[Attempt]:
        """Run the handlers in arrival order and collect their writes. A handler that raises contributes nothing.

        Returns the attempts whose handlers ran: fewer than all if there are many writes.
        """
        with _reader(self._database) as read:
            earlier: list[Write] = []
            for number, attempt in enumerate(attempts, start=1):
                if attempt.result is None and not self._stopping():
                    self.run(attempt, earlier, read)
                    earlier.extend(attempt.writes)
                    self._keep_lease()
                    if len(earlier) >= MOST_WRITES:
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
            else:
                attempt.writes = mirror.writes
        attempt.details.handle_us += microseconds_since(began)

    def run_in_savepoint(self, attempt: Attempt, earlier: list[Write], connection: Connection) -> None:
        """Run one handler inside the settling transaction, with a session and a savepoint of its own."""

        def read(key: Key, writes: list[Write]) -> MirrorRow | None:
            return UnitOfWork(connection).read(key, writes)

        with Session(bind=connection, join_transaction_mode="create_savepoint") as session:
            self.run(attempt, earlier, read, session)
            assert attempt.handler is not None
            with self._guard(attempt, attempt.handler.name, in_transaction=True):
                session.commit() if attempt.result is None else session.rollback()


@contextmanager
def _reader(database: Database) -> Iterator[ReadRow]:
    """Yield a reader for `mirror.get` on one snapshot of the database, opened at the first read."""
    with ExitStack() as stack:
        opened: list[Connection] = []

        def read(key: Key, writes: list[Write]) -> MirrorRow | None:
            if not opened:
                opened.append(stack.enter_context(database.read()))
            return UnitOfWork(opened[0]).read(key, writes)

        yield read
