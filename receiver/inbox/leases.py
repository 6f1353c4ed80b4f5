"""Leases: selects due deliveries, and gives a worker leases on them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any, NamedTuple

import structlog
from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, Select, bindparam, literal, select, text, update

from receiver.database.columns import UtcDateTime
from receiver.database.errors import is_fault_of_values, is_infrastructure_error
from receiver.inbox.bodies import bodies_of
from receiver.inbox.due import BY_INDEX
from receiver.inbox.tables import BODY_ID, BODY_SIZE, DELIVERIES, IDS, OF_SOURCES, State, in_state, kept_reason
from receiver.logs.safe_text import told

log = structlog.get_logger(__name__)

#: The deliveries that a worker has claimed.
OF_WORKER = (in_state(State.PROCESSING), DELIVERIES.c.claimed_by == bindparam("worker"))

#: The values of a delivery that is returned as if it had not been claimed.
UNCLAIMED: dict[str, Any] = {
    "state": State.PENDING.value,
    "attempts": DELIVERIES.c.attempts - 1,
    "claimed_by": None,
    "lease_until": None,
}

#: The key of the advisory lock under which deliveries are claimed on PostgreSQL.
CLAIM_LOCK = 0x686F6F6B0002


class Claimed(Struct):
    """A delivery that this worker has claimed, until its lease ends."""

    id: int
    source: str
    #: The number of the round, from 1.
    round: int
    #: The number of the attempt in its round, from 1.
    attempt: int
    received_at: datetime
    #: The verified body; None if it expired before the delivery was replayed.
    plain: bytes | None
    #: The recorded entity; None for an event without one, or for an unread body.
    entity: tuple[str, str] | None
    #: The recorded event type; None for an unread body.
    event_type: str | None
    #: The recorded time of the change, in UTC; None for an unread body.
    occurred_at: datetime | None
    #: The position of the event in its bundle; None for the only event of a body, or for an unread body.
    item: int | None = None
    #: The id under which the body is kept.
    body_id: int = 0


class Unclaimable(NamedTuple):
    """A delivery that became dead because the database refuses to claim it."""

    id: int
    source: str
    reason: str


class Detoured(NamedTuple):
    """What a claim around rows at fault did."""

    claimed: list[Claimed]
    dead: list[Unclaimable]


def claim(
    connection: Connection,
    worker: str,
    sources: Collection[str],
    *,
    limit: int,
    now: datetime,
    lease: timedelta,
    suspect: bool,
    max_bytes: int | None = None,
) -> list[Claimed]:
    """Claim due deliveries of these sources, either suspects or ordinary ones, in the order of ids.

    Claims as many as fit into `max_bytes` of bodies, but at least one; the bodies of the others are not read.
    """
    _be_alone(connection)
    parameters = {"sources": sorted(sources), "now": now, "suspect": suspect, "limit": limit}
    due = _found(connection, _DUE, parameters)
    return _claim(connection, due[: _how_many(due, max_bytes)], worker, now + lease)


def claim_around(
    connection: Connection,
    worker: str,
    sources: Collection[str],
    *,
    limit: int,
    now: datetime,
    lease: timedelta,
    suspect: bool,
    max_bytes: int | None = None,
) -> Detoured:
    """Do the same as `claim` without the rows that made it fail, which are found by halving the batch.

    A row whose values are at fault becomes dead with the database's reason, or stays as it is if the database refuses
    that, too. Raises the error of `claim` if single rows are not the cause.
    """
    _be_alone(connection)
    detour = _Detour(connection, worker, now, now + lease, left_bytes=max_bytes)
    parameters = {"sources": sorted(sources), "now": now, "suspect": suspect}
    while len(detour.claimed) < limit and not detour.is_full:
        # The other deliveries stay due, and the next claim takes them first.
        window = {"limit": limit - len(detour.claimed), "skip": detour.left}
        ids = list(connection.execute(_DUE_IDS, parameters | window).scalars())
        if not ids:
            break
        detour.claim(ids)
    if detour.unexplained is not None and not detour.claimed and not detour.dead:
        raise detour.unexplained
    return Detoured(sorted(detour.claimed, key=lambda delivery: delivery.id), detour.dead)


@dataclass(slots=True)
class _Detour:
    """A claim that skips rows that cannot be claimed, with a savepoint for each try."""

    connection: Connection
    worker: str
    now: datetime
    until: datetime
    claimed: list[Claimed] = field(default_factory=list)
    #: The deliveries that became dead, and the number of those that could not even be marked dead.
    dead: list[Unclaimable] = field(default_factory=list)
    left: int = 0
    #: Bytes of bodies that may still be claimed; None without a bound.
    left_bytes: int | None = None
    is_full: bool = False
    #: The last error that was not about a row's values.
    unexplained: Exception | None = None

    def claim(self, ids: Sequence[int]) -> None:
        """Claim these deliveries; if that fails, claim each half of them. A single delivery that fails becomes dead."""
        if self.is_full:
            return
        try:
            with self.connection.begin_nested():
                rows = _found(self.connection, _ROWS, {"ids": ids})
                fitting = rows[: _how_many(rows, self.left_bytes)]
                taken = _claim(self.connection, fitting, self.worker, self.until)
        except Exception as error:
            if is_infrastructure_error(error):
                raise
            if len(ids) == 1:
                self._give_up(ids[0], error)
                return
            half = len(ids) // 2
            self.claim(ids[:half])
            self.claim(ids[half:])
        else:
            self.claimed += taken
            self._count_bytes(sum(_sizes(fitting)), all_fit=len(fitting) == len(rows))

    def _count_bytes(self, size: int, *, all_fit: bool) -> None:
        if self.left_bytes is not None:
            self.left_bytes = max(self.left_bytes - size, 0)
            self.is_full = not all_fit or self.left_bytes == 0

    def _give_up(self, delivery_id: int, error: Exception) -> None:
        if is_fault_of_values(error):
            reason = f"It could not be claimed: {told(error)}"
            # The event type or the entity may be too long for an index.
            source = self._end(delivery_id, reason, {}) or self._end(delivery_id, reason, _NAMELESS)
            if source is not None:
                self.dead.append(Unclaimable(delivery_id, source, reason))
                return
        else:
            self.unexplained = error
        self.left += 1
        log.debug("cannot claim a delivery; skipping it", delivery=delivery_id, error=told(error))

    def _end(self, delivery_id: int, reason: str, names: dict[str, None]) -> str | None:
        """Make the delivery dead, and return its source; None if the database refuses that."""
        ended = {"state": State.DEAD.value, "reason": kept_reason(reason), "ended_at": self.now, "suspect": False}
        statement = update(DELIVERIES).where(DELIVERIES.c.id == delivery_id).values(**ended, **names)
        try:
            with self.connection.begin_nested():
                return self.connection.execute(statement.returning(DELIVERIES.c.source)).scalar()
        except Exception as error:
            if is_infrastructure_error(error):
                raise
            return None


_NAMELESS = {"entity_kind": None, "entity_id": None}


def unlocked(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """The condition of a worker's claimed deliveries that no other session has locked, of which it locks the rows."""
    free = select(DELIVERIES.c.id).where(*OF_WORKER, *conditions)
    return DELIVERIES.c.id.in_(free.with_for_update(skip_locked=True))


def _be_alone(connection: Connection) -> None:
    """Lock against other claims, because two concurrent claims could both take deliveries of one entity."""
    if connection.dialect.name == "postgresql":
        connection.execute(_CLAIM_ALONE, {"key": CLAIM_LOCK})


_NOW = bindparam("now", type_=UtcDateTime())

_BUSY = DELIVERIES.alias("busy")

#: The OFFSET keeps PostgreSQL from turning the subquery into a join, which would not use the index.
_ENTITY_IS_BUSY = (
    select(literal(1))
    .select_from(_BUSY)
    .where(
        text("busy.state = 'processing'"),
        _BUSY.c.source == DELIVERIES.c.source,
        _BUSY.c.entity_kind == DELIVERIES.c.entity_kind,
        _BUSY.c.entity_id == DELIVERIES.c.entity_id,
    )
    .offset(0)
    .correlate(DELIVERIES)
    .exists()
)

#: One statement, which saves a round trip.
_CLAIM_ALONE = text(f"SELECT pg_advisory_xact_lock(:key), {BY_INDEX}")


class _Claimable(Struct, frozen=True):
    """A row of `_COLUMNS`. A row of SQLAlchemy's takes ten times as long to give a value by its name."""

    id: int
    source: str
    round: int
    attempt: int
    received_at: datetime
    size: int | None
    body_id: int
    item: int | None
    entity_kind: str | None
    entity_id: str | None
    event_type: str | None
    occurred_at: datetime | None


def _found(connection: Connection, statement: Select[Any], parameters: dict[str, Any]) -> list[_Claimable]:
    return [_Claimable(*row) for row in connection.execute(statement, parameters).all()]


#: The columns of `_Claimable`.
_COLUMNS = (
    DELIVERIES.c.id,
    DELIVERIES.c.source,
    DELIVERIES.c.round,
    (DELIVERIES.c.attempts + 1).label("attempt"),
    DELIVERIES.c.received_at,
    BODY_SIZE.label("size"),
    BODY_ID.label("body_id"),
    DELIVERIES.c.item,
    DELIVERIES.c.entity_kind,
    DELIVERIES.c.entity_id,
    DELIVERIES.c.event_type,
    DELIVERIES.c.occurred_at,
)


def _due(*columns: Any) -> Select[Any]:
    return (
        select(*columns)
        .where(in_state(State.PENDING), DELIVERIES.c.suspect == bindparam("suspect"), OF_SOURCES)
        .where(DELIVERIES.c.due_at <= _NOW, ~_ENTITY_IS_BUSY)
        .order_by(DELIVERIES.c.due_at, DELIVERIES.c.id)
        .limit(bindparam("limit"))
        .with_for_update(skip_locked=True)
    )


#: Built once, because building a statement costs as much as running it.
_DUE = _due(*_COLUMNS)
_DUE_IDS = _due(DELIVERIES.c.id).offset(bindparam("skip"))
_ROWS = select(*_COLUMNS).where(IDS)

_TAKE = (
    update(DELIVERIES)
    .where(IDS)
    .values(
        state=State.PROCESSING.value,
        attempts=DELIVERIES.c.attempts + 1,
        claimed_by=bindparam("worker"),
        lease_until=bindparam("until"),
    )
)


def _claim(connection: Connection, rows: Sequence[_Claimable], worker: str, until: datetime) -> list[Claimed]:
    """Claim these rows, and read their bodies."""
    if not rows:
        return []
    ids = [row.id for row in rows]
    connection.execute(_TAKE, {"ids": ids, "worker": worker, "until": until})
    plain = bodies_of(connection, [row.body_id for row in rows])
    return [_claimed(row, plain.get(row.body_id)) for row in sorted(rows, key=lambda row: row.id)]


def _how_many(rows: Sequence[_Claimable], max_bytes: int | None) -> int:
    """The number of leading rows that fit into `max_bytes` together, at least one. A shared body counts once."""
    if max_bytes is None or sum(row.size or 0 for row in rows) <= max_bytes:
        return len(rows)
    return max(sum(total <= max_bytes for total in accumulate(_sizes(rows))), 1)


def _sizes(rows: Sequence[_Claimable]) -> Iterator[int]:
    """Yield the bytes of each delivery's body; 0 if an earlier delivery has the same body."""
    seen = set()
    for row in rows:
        yield 0 if row.body_id in seen else row.size or 0
        seen.add(row.body_id)


def _claimed(row: _Claimable, plain: bytes | None) -> Claimed:
    entity = None if row.entity_kind is None or row.entity_id is None else (row.entity_kind, row.entity_id)
    return Claimed(
        row.id,
        row.source,
        row.round,
        row.attempt,
        row.received_at,
        plain,
        entity,
        row.event_type,
        row.occurred_at,
        row.item,
        row.body_id,
    )
