"""Claims: what is due, and which of it a worker takes."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, func, literal, select, text, update

from receiver.columns import UtcDateTime
from receiver.deliveries import BODIES, DELIVERIES, IDS, OF_SOURCES, State, in_state

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
    if connection.dialect.name == "postgresql":
        # One claim at a time: two that do not see each other could both take deliveries of one entity.
        connection.execute(_CLAIM_ALONE, {"key": CLAIM_LOCK})
        connection.execute(_BY_INDEX)
    parameters = {"sources": sorted(sources), "now": now, "suspect": suspect, "limit": limit}
    claimed = [_claimed(*row) for row in connection.execute(_DUE, parameters).all()]
    if claimed:
        ids = [delivery.id for delivery in claimed]
        connection.execute(_TAKE, {"ids": ids, "worker": worker, "until": now + lease})
    return sorted(claimed, key=lambda delivery: delivery.id)


def first_due(connection: Connection, sources: Collection[str]) -> tuple[datetime | None, datetime | None]:
    """When the first ordinary one and the first suspect of what is pending are due; None if there is none."""
    if connection.dialect.name == "postgresql":
        connection.execute(_BY_INDEX)
    ordinary, suspect = connection.execute(_FIRST_DUE, {"sources": sorted(sources)}).one()
    return ordinary, suspect


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

#: Built once: putting a statement together costs as much as running it.
_DUE = (
    select(
        DELIVERIES.c.id,
        DELIVERIES.c.source,
        DELIVERIES.c.attempts + 1,
        DELIVERIES.c.received_at,
        _PLAIN,
        DELIVERIES.c.entity_kind,
        DELIVERIES.c.entity_id,
    )
    .where(in_state(State.PENDING), DELIVERIES.c.suspect == bindparam("suspect"), OF_SOURCES)
    .where(DELIVERIES.c.due_at <= bindparam("now", type_=UtcDateTime()), ~_ENTITY_IS_BUSY)
    .order_by(DELIVERIES.c.due_at, DELIVERIES.c.id)
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True)
)

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
