"""Lost attempts: those that no worker will end, because theirs died, hangs, or gave no sign of life for a lease."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, and_, select, update

from receiver.inbox import results
from receiver.inbox.attempts import AttemptResult
from receiver.inbox.tables import DELIVERIES, State, in_state

#: The reason of a lost attempt.
LOST = "The worker stopped or hung during this attempt."


class LostAttempt(NamedTuple):
    """A delivery that a worker left behind in `processing`."""

    delivery_id: int
    source: str
    received_at: datetime
    round: int
    #: Whether it was claimed alone, and so is certainly at fault: in a batch, any delivery may have ended the worker.
    was_alone: bool
    #: Whether that was its last attempt.
    is_dead: bool


def has_lost(connection: Connection, dead: Sequence[str], *, now: datetime) -> bool:
    """Whether any delivery is held by one of these workers, or by an expired lease."""
    return connection.execute(_lost(dead, now).limit(1)).first() is not None


def give_back(
    connection: Connection, dead: Sequence[str], *, now: datetime, max_attempts: int, pause: timedelta
) -> list[LostAttempt]:
    """End the lost attempts: their deliveries are pending as suspects, or dead without an attempt left."""
    # Ordered by an expression, because SQLite would read the whole table in the order of the plain column.
    ordered = _lost(dead, now).order_by(DELIVERIES.c.id + 0).with_for_update(skip_locked=True)
    rows = connection.execute(ordered).all()
    by_worker: dict[str, list[AttemptResult]] = defaultdict(list)
    found = []
    for row in rows:
        is_dead = row.suspect and row.attempts >= max_attempts
        due_at = now + pause if row.suspect else now
        by_worker[row.claimed_by].append(_result(row, due_at=due_at, is_dead=is_dead))
        found.append(LostAttempt(row.id, row.source, row.received_at, row.round, row.suspect, is_dead))
    for worker, ended in by_worker.items():
        results.record(connection, worker, ended, now=now)
    connection.execute(update(DELIVERIES).where(DELIVERIES.c.id.in_([row.id for row in rows])).values(suspect=True))
    return found


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


def _lost(dead: Sequence[str], now: datetime) -> Select[Any]:
    columns = DELIVERIES.c["id", "source", "received_at", "round", "attempts", "claimed_by", "suspect"]
    left = (DELIVERIES.c.lease_until < now) | DELIVERIES.c.claimed_by.in_(list(dead))
    return select(*columns).where(and_(in_state(State.PROCESSING), left))
