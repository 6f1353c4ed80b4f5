"""Lost attempts: those that no worker will end, because theirs died, hangs, or gave no sign of life for a lease."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import structlog
from sqlalchemy import Connection, Row, Select, and_, select, update

from receiver.database.errors import is_fault_of_values, is_infrastructure_error
from receiver.inbox import results
from receiver.inbox.attempts import AttemptResult
from receiver.inbox.tables import DELIVERIES, State, in_state, kept_reason
from receiver.logs.safe_text import told

log = structlog.get_logger(__name__)

#: The reason of a lost attempt.
LOST = "The worker stopped or hung during this attempt."


class LostAttempt(NamedTuple):
    """A delivery that a worker left behind in `processing`."""

    delivery_id: int
    source: str
    #: None for a row that the database refuses to change.
    received_at: datetime | None
    #: 0 for such a row.
    round: int
    #: Whether it was claimed alone, and so is certainly at fault: in a batch, any delivery may have ended the worker.
    was_alone: bool
    #: Whether that was its last attempt, or the database refuses to record it.
    is_dead: bool
    reason: str = LOST


def has_lost(connection: Connection, dead: Sequence[str], *, now: datetime) -> bool:
    """Whether any delivery is held by one of these workers, by an expired lease, or by nobody."""
    return connection.execute(_lost(dead, now, DELIVERIES.c.id).limit(1)).first() is not None


def end_attempts(
    connection: Connection, dead: Sequence[str], *, now: datetime, max_attempts: int, pause: timedelta
) -> list[LostAttempt]:
    """End the lost attempts: their deliveries are pending as suspects, or dead without an attempt left."""
    return _end_attempts(connection, _locked(connection, dead, now, *_COLUMNS), now, max_attempts, pause)


def end_attempts_around(
    connection: Connection, dead: Sequence[str], *, now: datetime, max_attempts: int, pause: timedelta
) -> list[LostAttempt]:
    """Do the same as `end_attempts` without the rows that made it fail, which are found by halving.

    A row whose values are at fault becomes dead with the database's reason, or stays as it is if the database refuses
    that, too.
    """
    found: list[LostAttempt] = []
    waiting = [[row.id for row in _locked(connection, dead, now, DELIVERIES.c.id)]]
    while waiting:
        ids = waiting.pop()
        try:
            with connection.begin_nested():
                rows = connection.execute(select(*_COLUMNS).where(DELIVERIES.c.id.in_(ids)).order_by(DELIVERIES.c.id))
                found += _end_attempts(connection, rows.all(), now, max_attempts, pause)
        except Exception as error:
            if is_infrastructure_error(error):
                raise
            half = len(ids) // 2
            if half:
                waiting += [ids[half:], ids[:half]]
            else:
                found += _end_as_dead(connection, ids[0], error, now)
    return found


def _locked(connection: Connection, dead: Sequence[str], now: datetime, *columns: Any) -> Sequence[Row[Any]]:
    """Lock the deliveries with a lost attempt that no other session holds."""
    # Ordered by an expression, because SQLite would read the whole table in the order of the plain column.
    ordered = _lost(dead, now, *columns).order_by(DELIVERIES.c.id + 0).with_for_update(skip_locked=True)
    return connection.execute(ordered).all()


def _end_attempts(
    connection: Connection, rows: Sequence[Row[Any]], now: datetime, max_attempts: int, pause: timedelta
) -> list[LostAttempt]:
    by_worker: dict[str, list[AttemptResult]] = defaultdict(list)
    found = []
    for row in rows:
        is_dead = row.suspect and row.attempts >= max_attempts
        due_at = now + pause if row.suspect else now
        by_worker[row.claimed_by or ""].append(_result(row, due_at=due_at, is_dead=is_dead))
        found.append(LostAttempt(row.id, row.source, row.received_at, row.round, row.suspect, is_dead))
    for worker, ended in by_worker.items():
        results.record(connection, worker, ended, now=now)
    connection.execute(update(DELIVERIES).where(DELIVERIES.c.id.in_([row.id for row in rows])).values(suspect=True))
    return found


def _end_as_dead(connection: Connection, delivery_id: int, error: Exception, now: datetime) -> list[LostAttempt]:
    """Make a delivery dead whose lost attempt cannot be recorded; if the database refuses that, too, it stays."""
    reason = f"Its lost attempt could not be recorded: {told(error)}"
    ended = {"state": State.DEAD.value, "reason": kept_reason(reason), "ended_at": now, "suspect": False}
    statement = update(DELIVERIES).where(DELIVERIES.c.id == delivery_id).values(**ended, **_UNHELD)
    try:
        if not is_fault_of_values(error):
            raise error
        with connection.begin_nested():
            source = connection.execute(statement.returning(DELIVERIES.c.source)).scalar_one()
    except Exception as refusal:
        if is_infrastructure_error(refusal):
            raise
        log.debug("cannot give a delivery back; skipping it", delivery=delivery_id, error=told(refusal))
        return []
    return [LostAttempt(delivery_id, source, None, 0, was_alone=False, is_dead=True, reason=reason)]


def _result(row: Row[Any], *, due_at: datetime, is_dead: bool) -> AttemptResult:
    return AttemptResult(
        delivery_id=row.id,
        state=State.DEAD if is_dead else State.PENDING,
        reason=LOST,
        due_at=due_at,
        failed=True,
        round=row.round,
        number=row.attempts,
    )


def _lost(dead: Sequence[str], now: datetime, *columns: Any) -> Select[Any]:
    # Without a worker or a lease, the row was edited by hand.
    held_by_nobody = DELIVERIES.c.claimed_by.is_(None) | DELIVERIES.c.lease_until.is_(None)
    left = (DELIVERIES.c.lease_until < now) | DELIVERIES.c.claimed_by.in_(list(dead)) | held_by_nobody
    return select(*columns).where(and_(in_state(State.PROCESSING), left))


_COLUMNS = DELIVERIES.c["id", "source", "received_at", "round", "attempts", "claimed_by", "suspect"]

_UNHELD = {"claimed_by": None, "lease_until": None}
