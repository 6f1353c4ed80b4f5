"""Retention: drops bodies first and dedup keys much later, in small batches, so that other writers wait briefly.

It runs between the passes of a worker, so that it must not wait either: a delivery that another session holds stays for
a later batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, func, literal, select, text, update

from receiver.database.database import Database
from receiver.database.errors import retry_transaction
from receiver.inbox.ids import arrived, first_id_at
from receiver.inbox.tables import (
    ATTEMPTS,
    BODIES,
    BODY_ID,
    DEDUP_KEYS,
    DELIVERIES,
    HAS_ENDED,
    ROUNDS,
    SETTLEMENTS,
    dedup_keys_in,
    possible_keys,
)

#: Deliveries per transaction.
BATCH = 500

#: The most by which the clock of a worker may be behind that of an endpoint.
CLOCK_MARGIN = timedelta(days=1)

#: The most free pages of a SQLite file that one transaction returns to the disk.
PAGES = 1_000


def _some_delivery(*conditions: Any) -> Any:
    """The condition that the body has a delivery.

    The offset keeps PostgreSQL from turning it into a join, which may begin with deliveries whose bodies have expired.
    """
    return select(literal(1)).where(*conditions).offset(0).correlate(BODIES).exists()


_OWN, _SHARED = DELIVERIES.c.id == BODIES.c.delivery_id, DELIVERIES.c.body_id == BODIES.c.delivery_id

_IS_OPEN: Any = text(f"NOT {HAS_ENDED}")

#: The condition that every delivery of the body is finished.
_ALL_HAVE_ENDED = ~_some_delivery(_OWN, _IS_OPEN) & ~_some_delivery(_SHARED, _IS_OPEN)


#: A function that drops a small batch of rows expired by a time, and returns their number; 0 when none are left.
Drop = Callable[[Database, datetime], int]


@dataclass(frozen=True, slots=True)
class Retention:
    """Retention periods for bodies and deduplication keys. Unfinished deliveries keep everything, however old."""

    bodies: timedelta
    #: The period after which deliveries are dropped with their dedup keys; then the same change would count as new.
    dedup_keys: timedelta
    #: Functions that drop expired rows of other tables.
    others: Sequence[Drop] = ()

    def prune(self, database: Database, *, now: datetime) -> int:
        """Drop one small batch of expired bodies or deliveries, and return the number of deliveries; 0 at the end.

        On PostgreSQL, deliveries that another session holds are left out, and SQLAlchemy's error is raised for another
        row that is held for longer than the session waits for a lock.
        """
        bodies = self._drop_bodies(database, now)
        if bodies:
            return bodies
        deliveries = self._drop_deliveries(database, now)
        self._drop_settlements(database, now)
        return deliveries

    def prune_others(self, database: Database, *, now: datetime) -> int:
        """Drop one small batch of expired rows of other tables, and return their number; 0 at the end."""
        return next((dropped for drop in self.others if (dropped := drop(database, now))), 0)

    def _drop_bodies(self, database: Database, now: datetime) -> int:
        expired = (
            select(BODIES.c.delivery_id)
            .where(BODIES.c.delivery_id < first_id_at(now - self.bodies), _ALL_HAVE_ENDED)
            .order_by(BODIES.c.delivery_id)
            .limit(BATCH)
        )
        with database.read() as connection:
            ids = connection.execute(expired).scalars().all()
        return retry_transaction(lambda: _delete_bodies(database, ids)) if ids else 0

    def _drop_deliveries(self, database: Database, now: datetime) -> int:
        expired = (
            select(DELIVERIES.c.id)
            .where(DELIVERIES.c.id < first_id_at(now - self.dedup_keys), HAS_ENDED)
            .order_by(DELIVERIES.c.id)
            .limit(BATCH)
        )
        with database.read() as connection:
            ids = connection.execute(expired).scalars().all()
        return retry_transaction(lambda: _delete_deliveries(database, ids)) if ids else 0

    def _drop_settlements(self, database: Database, now: datetime) -> None:
        """Drop one batch of settlements older than the oldest delivery, since all their deliveries are dropped."""
        expires = now - self.dedup_keys
        of_expired = select(func.min(DELIVERIES.c.id)).where(DELIVERIES.c.id < first_id_at(expires))
        with database.read() as connection:
            oldest = connection.execute(of_expired).scalar()
            arrival = expires if oldest is None else datetime.fromtimestamp(arrived(oldest) / 1e6, UTC)
            expired = (
                select(SETTLEMENTS.c.ended_at, SETTLEMENTS.c.id)
                .where(SETTLEMENTS.c.ended_at < arrival - CLOCK_MARGIN)
                .order_by(SETTLEMENTS.c.ended_at, SETTLEMENTS.c.id)
                .limit(2 * BATCH)
            )
            keys = connection.execute(expired).all()
        if keys:
            retry_transaction(lambda: _delete_settlements(database, keys))


def _delete_settlements(database: Database, keys: Sequence[Row[datetime, int]]) -> None:
    """Delete these settlements, the oldest ones. Each row has the key of a settlement."""
    up_to = SETTLEMENTS.c.ended_at <= keys[-1].ended_at
    with database.write() as connection:
        connection.execute(delete(SETTLEMENTS).where(up_to, SETTLEMENTS.c.id.in_([key.id for key in keys])))


def _delete_bodies(database: Database, ids: Sequence[int]) -> int:
    """Delete the bodies among these whose deliveries are still all finished and not locked; return their number."""
    with database.write() as connection:
        ended = _ended_and_locked(connection, DELIVERIES.c.id, ids)
        ended |= _ended_and_locked(connection, DELIVERIES.c.body_id, ids)
        of_them = [*_deliveries(connection, DELIVERIES.c.id, ids), *_deliveries(connection, DELIVERIES.c.body_id, ids)]
        needed = {row.body_id for row in of_them if row.id not in ended}
        ended = {row.id for row in of_them if row.body_id not in needed}
        dropped = connection.execute(delete(BODIES).where(BODIES.c.delivery_id.in_(set(ids) - needed))).rowcount
        # Tracebacks are as large as bodies, and quote them.
        of_ended = ATTEMPTS.c.delivery_id.in_(ended), ATTEMPTS.c.traceback.is_not(None)
        connection.execute(update(ATTEMPTS).where(*of_ended).values(traceback=None))
        return dropped


def _delete_deliveries(database: Database, expired: Sequence[int]) -> int:
    """Delete the still finished and unlocked ones of these, with their bodies and dedup keys; return their number."""
    with database.write() as connection:
        rows = _still_ended(connection, expired)
        ids = [row.id for row in rows]
        keys = (key for row in rows for key in possible_keys(row))
        for condition in dedup_keys_in(keys):
            connection.execute(delete(DEDUP_KEYS).where(condition, DEDUP_KEYS.c.delivery_id.in_(ids)))
        connection.execute(delete(ATTEMPTS).where(ATTEMPTS.c.delivery_id.in_(ids)))
        connection.execute(delete(ROUNDS).where(ROUNDS.c.delivery_id.in_(ids)))
        bodies = select(BODY_ID).where(DELIVERIES.c.id.in_(ids))
        body_ids = connection.execute(bodies).scalars().all()
        connection.execute(delete(DELIVERIES).where(DELIVERIES.c.id.in_(ids)))
        # A body that other deliveries share is kept for them.
        unused = ~_some_delivery(_OWN) & ~_some_delivery(_SHARED)
        connection.execute(delete(BODIES).where(BODIES.c.delivery_id.in_(body_ids), unused))
        return len(ids)


def _deliveries(connection: Connection, column: ColumnElement[int], ids: Sequence[int]) -> Sequence[Row[Any]]:
    """Select the deliveries whose column is one of these ids, each with its body's id."""
    columns: list[ColumnElement[Any]] = [DELIVERIES.c.id, BODY_ID.label("body_id")]
    return connection.execute(select(*columns).where(column.in_(ids))).all()


def _ended_and_locked(connection: Connection, column: ColumnElement[int], ids: Sequence[int]) -> set[int]:
    """Lock the finished deliveries whose column is one of these ids, and return the ids of those that were free."""
    found = select(DELIVERIES.c.id).where(column.in_(ids), HAS_ENDED).order_by(DELIVERIES.c.id)
    return set(connection.execute(found.with_for_update(skip_locked=True)).scalars())


def _still_ended(connection: Connection, ids: Sequence[int]) -> Sequence[Row[Any]]:
    """Lock and return those that are free and still finished, neither replayed nor revived by a duplicate.

    Each row has the columns of which the dedup keys consist.
    """
    columns = DELIVERIES.c["id", "source", "dedup_key", "occurred_at"]
    statement = select(*columns).where(DELIVERIES.c.id.in_(ids), HAS_ENDED).order_by(DELIVERIES.c.id)
    return connection.execute(statement.with_for_update(skip_locked=True)).all()
