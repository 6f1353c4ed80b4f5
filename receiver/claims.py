"""Claims: what is due, and which of it a worker takes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Connection, bindparam, func, literal, select, text, update

from receiver.columns import Many, UtcDateTime, among
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
    max_bytes: int | None = None,
) -> list[Claimed]:
    """Take due deliveries of these sources, suspects or ordinary ones; in the order of their ids.

    As many as have `max_bytes` of bodies together, but one at least; the bodies of the others are not even read.
    """
    if connection.dialect.name == "postgresql":
        # One claim at a time: two that do not see each other could both take deliveries of one entity.
        connection.execute(_CLAIM_ALONE, {"key": CLAIM_LOCK})
        connection.execute(_BY_INDEX)
    parameters = {"sources": sorted(sources), "now": now, "suspect": suspect, "limit": limit}
    due = connection.execute(_DUE, parameters).all()
    due = due[: _how_many([row.size for row in due], max_bytes)]
    if not due:
        return []
    ids = [row.id for row in due]
    connection.execute(_TAKE, {"ids": ids, "worker": worker, "until": now + lease})
    plain = {row.delivery_id: row.plain for row in connection.execute(_PLAIN, {"ids": ids})}
    return [_claimed(row, plain.get(row.id)) for row in sorted(due, key=lambda row: row.id)]


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

#: The bytes of what is worked on: of the body, or of what it decrypted to. Both databases know them without reading it.
#: Looked up for each delivery, so that no join changes the order in which the index is walked.
_SIZE = (
    select(func.coalesce(func.length(BODIES.c.plain), func.length(BODIES.c.body)))
    .where(BODIES.c.delivery_id == DELIVERIES.c.id)
    .correlate(DELIVERIES)
    .scalar_subquery()
)

#: What is worked on, of the deliveries whose ids are the parameter `ids`.
_PLAIN = select(BODIES.c.delivery_id, func.coalesce(BODIES.c.plain, BODIES.c.body).label("plain")).where(
    among(BODIES.c.delivery_id, bindparam("ids", type_=Many(BigInteger)))
)

#: Built once: putting a statement together costs as much as running it.
_DUE = (
    select(
        DELIVERIES.c.id,
        DELIVERIES.c.source,
        (DELIVERIES.c.attempts + 1).label("attempt"),
        DELIVERIES.c.received_at,
        _SIZE.label("size"),
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


def _how_many(sizes: Sequence[int | None], max_bytes: int | None) -> int:
    """How many of these, from the first on, have `max_bytes` together: one at least."""
    if max_bytes is None:
        return len(sizes)
    totals = accumulate(size or 0 for size in sizes)
    return max(sum(total <= max_bytes for total in totals), 1)


def _claimed(row: Any, plain: bytes | None) -> Claimed:
    has_entity = row.entity_kind is not None and row.entity_id is not None
    entity = (row.entity_kind, row.entity_id) if has_entity else None
    return Claimed(row.id, row.source, row.attempt, row.received_at, plain, entity)
