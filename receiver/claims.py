"""Claims: what is due, and which of it a worker takes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import structlog
from sqlalchemy import Connection, Select, bindparam, func, literal, select, text, update

from receiver.columns import UtcDateTime
from receiver.deliveries import BODIES, DELIVERIES, IDS, OF_SOURCES, State, in_state, kept_reason
from receiver.trouble import is_fault_of_values, is_trouble_of_ours, one_line

log = structlog.get_logger(__name__)

#: The key of the advisory lock under which deliveries are claimed on PostgreSQL.
CLAIM_LOCK = 0x686F6F6B0002


class Claimed(NamedTuple):
    """A delivery that this worker may work on until its lease ends."""

    id: int
    source: str
    #: From 1.
    attempt: int
    received_at: datetime
    #: The verified body; None if it expired before the delivery was replayed.
    plain: bytes | None
    #: What it is about, as known when it was accepted.
    entity: tuple[str, str] | None


class Due(NamedTuple):
    """Whether there is something to claim, among the ordinary deliveries and among the suspects."""

    ordinary: bool
    suspect: bool


def claim(
    connection: Connection,
    worker: str,
    sources: Collection[str],
    *,
    limit: int,
    now: datetime,
    lease: timedelta,
    suspect: bool,
) -> list[Claimed]:
    """Take due deliveries of these sources, suspects or ordinary ones; in the order of their ids."""
    _be_alone(connection)
    parameters = {"sources": sorted(sources), "now": now, "suspect": suspect, "limit": limit}
    claimed = [_claimed(*row) for row in connection.execute(_DUE, parameters).all()]
    if claimed:
        ids = [delivery.id for delivery in claimed]
        connection.execute(_TAKE, {"ids": ids, "worker": worker, "until": now + lease})
    return sorted(claimed, key=lambda delivery: delivery.id)


def claim_around(
    connection: Connection,
    worker: str,
    sources: Collection[str],
    *,
    limit: int,
    now: datetime,
    lease: timedelta,
    suspect: bool,
) -> list[Claimed]:
    """Claim as `claim` does, past the rows that made it fail, which are found by halving the batch.

    A row whose values are at fault ends as dead with the database's reason. Whatever cannot be changed even so is left
    as it is. Raises what `claim` raised if that had nothing to do with single rows.
    """
    _be_alone(connection)
    detour = _Detour(connection, worker, now, now + lease)
    parameters = {"sources": sorted(sources), "now": now, "suspect": suspect}
    while len(detour.claimed) < limit:
        # What is left stays due, and comes first.
        window = {"limit": limit - len(detour.claimed), "skip": detour.left}
        ids = list(connection.execute(_DUE_IDS, parameters | window).scalars())
        if not ids:
            break
        detour.claim(ids)
    if detour.unexplained is not None and not detour.claimed and not detour.dead:
        raise detour.unexplained
    return sorted(detour.claimed, key=lambda delivery: delivery.id)


@dataclass(slots=True)
class _Detour:
    """A claim that goes around rows that cannot be claimed; each try has a savepoint of its own."""

    connection: Connection
    worker: str
    now: datetime
    until: datetime
    claimed: list[Claimed] = field(default_factory=list)
    #: How many ended as dead, and how many could not even do that.
    dead: int = 0
    left: int = 0
    #: The last error that was not about a row's values.
    unexplained: Exception | None = None

    def claim(self, ids: Sequence[int]) -> None:
        """Claim these, or both halves of them, or end the one that is left."""
        try:
            with self.connection.begin_nested():
                rows = [_claimed(*row) for row in self.connection.execute(_ROWS, {"ids": ids}).all()]
                self.connection.execute(_TAKE, {"ids": ids, "worker": self.worker, "until": self.until})
        except Exception as error:
            if is_trouble_of_ours(error):
                raise
            if len(ids) == 1:
                self._give_up(ids[0], error)
                return
            half = len(ids) // 2
            self.claim(ids[:half])
            self.claim(ids[half:])
        else:
            self.claimed += rows

    def _give_up(self, delivery_id: int, error: Exception) -> None:
        if is_fault_of_values(error):
            reason = f"It could not be claimed: {one_line(error)}"
            # Its names may be what no index takes.
            if self._end(delivery_id, reason, {}) or self._end(delivery_id, reason, _NAMELESS):
                self.dead += 1
                log.warning("a delivery is dead", delivery=delivery_id, reason=reason)
                return
        else:
            self.unexplained = error
        self.left += 1
        log.debug("a delivery cannot be claimed, and is left as it is", delivery=delivery_id, error=one_line(error))

    def _end(self, delivery_id: int, reason: str, names: dict[str, None]) -> bool:
        ended = {"state": State.DEAD.value, "reason": kept_reason(reason), "ended_at": self.now, "suspect": False}
        statement = update(DELIVERIES).where(DELIVERIES.c.id == delivery_id).values(**ended, **names)
        try:
            with self.connection.begin_nested():
                self.connection.execute(statement)
        except Exception as error:
            if is_trouble_of_ours(error):
                raise
            return False
        return True


_NAMELESS = {"entity_kind": None, "entity_id": None}


def first_due(connection: Connection, sources: Collection[str]) -> tuple[datetime | None, datetime | None]:
    """When the first ordinary one and the first suspect of what is pending are due; None if there is none."""
    if connection.dialect.name == "postgresql":
        connection.execute(_BY_INDEX)
    ordinary, suspect = connection.execute(_FIRST_DUE, {"sources": sorted(sources)}).one()
    return ordinary, suspect


def _be_alone(connection: Connection) -> None:
    """One claim at a time: two that do not see each other could both take deliveries of one entity."""
    if connection.dialect.name == "postgresql":
        connection.execute(_CLAIM_ALONE, {"key": CLAIM_LOCK})
        connection.execute(_BY_INDEX)


def _first_due_at(suspect: bool) -> Any:
    pending = select(DELIVERIES.c.due_at).where(in_state(State.PENDING), DELIVERIES.c.suspect == suspect, OF_SOURCES)
    return pending.order_by(DELIVERIES.c.due_at).limit(1).scalar_subquery()


_FIRST_DUE = select(_first_due_at(False), _first_due_at(True))

_BUSY = DELIVERIES.alias("busy")

#: The offset keeps PostgreSQL from making a join of it, which it would do without the index.
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

#: Has PostgreSQL walk along the index of what is due for the rest of the transaction: its statistics are of a time when
#: little was pending, so that it would rather sort the whole backlog each time.
_BY_INDEX = text(
    "SELECT set_config('enable_sort', 'off', true), set_config('enable_bitmapscan', 'off', true), "
    "set_config('enable_seqscan', 'off', true)"
)

_CLAIM_ALONE = text("SELECT pg_advisory_xact_lock(:key)")

#: What is worked on: the body, or what it decrypted to. Looked up for each delivery, so that no join changes the order
#: in which the index is walked.
_PLAIN = (
    select(func.coalesce(BODIES.c.plain, BODIES.c.body))
    .where(BODIES.c.delivery_id == DELIVERIES.c.id)
    .correlate(DELIVERIES)
    .scalar_subquery()
)

#: What `_claimed` takes.
_COLUMNS = (
    DELIVERIES.c.id,
    DELIVERIES.c.source,
    DELIVERIES.c.attempts + 1,
    DELIVERIES.c.received_at,
    _PLAIN,
    DELIVERIES.c.entity_kind,
    DELIVERIES.c.entity_id,
)


def _due(*columns: Any) -> Select[Any]:
    return (
        select(*columns)
        .where(in_state(State.PENDING), DELIVERIES.c.suspect == bindparam("suspect"), OF_SOURCES)
        .where(DELIVERIES.c.due_at <= bindparam("now", type_=UtcDateTime()), ~_ENTITY_IS_BUSY)
        .order_by(DELIVERIES.c.due_at, DELIVERIES.c.id)
        .limit(bindparam("limit"))
        .with_for_update(skip_locked=True)
    )


#: Built once: putting a statement together costs as much as running it.
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


def _claimed(
    delivery_id: int,
    source: str,
    attempt: int,
    received_at: datetime,
    plain: bytes | None,
    kind: str | None,
    entity_id: str | None,
) -> Claimed:
    entity = (kind, entity_id) if kind is not None and entity_id is not None else None
    return Claimed(delivery_id, source, attempt, received_at, plain, entity)
