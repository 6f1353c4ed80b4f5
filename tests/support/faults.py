"""Ends a piece of work before any one of its statements, as a kill at that instant would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import event
from sqlalchemy.exc import PendingRollbackError

from receiver.database.database import Database


class Killed(BaseException):
    """Stands for a kill. It is not an `Exception`, so that no handler for exceptions catches it."""


@contextmanager
def dying_before(database: Database, statement: int) -> Iterator[None]:
    """End the work in the block before its statement of this number (from 0); a commit counts as a step, too."""
    seen = -1

    def step(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == statement:
            raise Killed

    event.listen(database.engine, "before_cursor_execute", step)
    event.listen(database.engine, "commit", step)
    try:
        yield
    except PendingRollbackError:
        # SQLAlchemy drops the connection of a statement that ended in this way, and may then miss it at the rollback.
        if seen < statement:
            raise
        raise Killed from None
    finally:
        event.remove(database.engine, "before_cursor_execute", step)
        event.remove(database.engine, "commit", step)


def each_death(database: Database, work: Callable[[], object], *, most: int = 500) -> Iterator[int]:
    """Repeat the work, ended one statement later each time, until it completes.

    Yields the number of the statement after each death.
    """
    for statement in range(most):
        try:
            with dying_before(database, statement):
                work()
        except Killed:
            yield statement
        else:
            return
    raise AssertionError(f"the work has more than {most} statements")
