"""Retention: drops bodies first and dedup keys much later, in small batches, so that other writers wait briefly.

It runs between the passes of a worker, so that it must not wait either: a delivery that another session holds stays for
a later batch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import accumulate
from typing import Any

import structlog
from sqlalchemy import ColumnElement, Connection, Row, Select, delete, func, literal, select, text, update

from receiver.database.database import Database
from receiver.database.errors import is_fault_of_values, retry_transaction
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
from receiver.logs.safe_text import told

log = structlog.get_logger(__name__)

#: Deliveries per transaction, and the bytes of bodies at which a batch ends: SQLite overwrites the pages of a deleted
#: body, and no webhook is accepted meanwhile.
BATCH, BATCH_BYTES = 500, 16 * 1024 * 1024

#: The most rows whose deletion the database refuses that are passed over, and for how long.
MOST_REFUSED, PASSED_OVER = 20, timedelta(hours=1)

#: The most batches that are passed over, because other sessions hold or have dropped all of their rows.
MOST_PASSED_OVER = 10

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


#: The bytes of a body with its decrypted content, which both databases know without reading them.
_BODY_BYTES = func.length(BODIES.c.body) + func.coalesce(func.length(BODIES.c.plain), 0)


#: A function that drops a small batch of rows expired by a time, and returns their number; 0 when none are left.
Drop = Callable[[Database, datetime], int]


@dataclass(slots=True)
class RefusedDrops:
    """The rows whose deletion the database refused, such as those to which a foreign key of a user's table refers.

    A batch that it refuses is halved until it is one row. That row is passed over for `PASSED_OVER`.
    """

    #: The ids of these rows, and the time from which they are passed over.
    ids: set[int] = field(default_factory=set)
    since: datetime | None = None
    #: The size of the next batch, smaller after a refusal; None for `BATCH`.
    size: int | None = None
    #: Held during a batch: a worker and a run of `prune` in the same process share these.
    _turn: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def drop(
        self,
        database: Database,
        expired: Select[Any],
        delete_all: Callable[[Database, Sequence[int]], int],
        *,
        what: str,
        now: datetime,
    ) -> int:
        """Drop the next batch that is not refused, and return the number of its rows; 0 at the end.

        `expired` selects ids, and perhaps bytes that belong to each. Raises the database's error once more than
        `MOST_REFUSED` rows are refused, because some rule then holds for most of them.
        """
        with self._turn:
            return self._drop(database, expired, delete_all, what, now)

    def _drop(
        self,
        database: Database,
        expired: Select[Any],
        delete_all: Callable[[Database, Sequence[int]], int],
        what: str,
        now: datetime,
    ) -> int:
        if self.since is not None and not self.since <= now < self.since + PASSED_OVER:
            self._forget()
        behind, passed_over = 0, 0
        while rows := self._batch(database, expired, behind):
            ids = _within_bytes(rows)
            try:
                dropped = retry_transaction(partial(delete_all, database, ids))
            except Exception as error:
                if not is_fault_of_values(error) or (len(ids) == 1 and len(self.ids) >= MOST_REFUSED):
                    self._forget()
                    raise
                if len(ids) == 1:
                    log.warning("the database refuses to drop an expired row", kind=what, id=ids[0], error=told(error))
                    self.ids.add(ids[0])
                    self.since = self.since or now
                self.size = max(len(ids) // 2, 1)
            else:
                whole = len(rows) >= (self.size or BATCH) or len(ids) < len(rows)
                self.size = None if self.size is None or 2 * self.size >= BATCH else 2 * self.size
                if dropped or not whole or passed_over == MOST_PASSED_OVER:
                    return dropped
                # Behind rows that another session holds or has dropped, there may be others.
                behind, passed_over = ids[-1], passed_over + 1
        return 0

    def _batch(self, database: Database, expired: Select[Any], behind: int) -> Sequence[Row[Any]]:
        column = expired.selected_columns[0]
        wanted = expired.where(column > behind) if behind else expired
        wanted = wanted.where(column.not_in(tuple(self.ids))) if self.ids else wanted
        with database.read() as connection:
            return connection.execute(wanted.limit(self.size or BATCH)).all()

    def _forget(self) -> None:
        self.ids, self.since, self.size = set(), None, None


def _within_bytes(rows: Sequence[Row[Any]]) -> list[int]:
    """The ids of the leading rows that reach `BATCH_BYTES` together; of all rows if these have no bytes."""
    upto = accumulate((sum(row[1:]) for row in rows[:-1]), initial=0)
    return [row[0] for row, before in zip(rows, upto, strict=True) if before < BATCH_BYTES]


@dataclass(frozen=True, slots=True)
class Retention:
    """Retention periods for bodies and deduplication keys. Unfinished deliveries keep everything, however old."""

    bodies: timedelta
    #: The period after which deliveries are dropped with their dedup keys; then the same change would count as new.
    dedup_keys: timedelta
    #: Functions that drop expired rows of other tables.
    others: Sequence[Drop] = ()
    _refused_bodies: RefusedDrops = field(default_factory=RefusedDrops, init=False, compare=False)
    _refused_deliveries: RefusedDrops = field(default_factory=RefusedDrops, init=False, compare=False)

    def prune(self, database: Database, *, now: datetime) -> int:
        """Drop one small batch of expired bodies or deliveries, and return the number of deliveries; 0 at the end.

        A row that the database refuses to drop is logged and passed over. On PostgreSQL, deliveries that another
        session holds are left out, and SQLAlchemy's error is raised for another row that is held for longer than the
        session waits for a lock.
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
            select(BODIES.c.delivery_id, _BODY_BYTES)
            .where(BODIES.c.delivery_id < first_id_at(now - self.bodies), _ALL_HAVE_ENDED)
            .order_by(BODIES.c.delivery_id)
        )
        return self._refused_bodies.drop(database, expired, _delete_bodies, what="body", now=now)

    def _drop_deliveries(self, database: Database, now: datetime) -> int:
        expired = (
            select(DELIVERIES.c.id)
            .where(DELIVERIES.c.id < first_id_at(now - self.dedup_keys), HAS_ENDED)
            .order_by(DELIVERIES.c.id)
        )
        return self._refused_deliveries.drop(database, expired, _delete_deliveries, what="delivery", now=now)

    def _drop_settlements(self, database: Database, now: datetime) -> None:
        """Drop one batch of settlements older than the oldest delivery, since all their deliveries are dropped."""
        expires = now - self.dedup_keys
        of_expired = select(func.min(DELIVERIES.c.id)).where(
            DELIVERIES.c.id < first_id_at(expires), DELIVERIES.c.id.not_in(tuple(self._refused_deliveries.ids))
        )
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
