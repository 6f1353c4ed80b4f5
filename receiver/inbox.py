"""The inbox: the durable truth about every delivery, and the verbs that move it from state to state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, bindparam, exists, func, select, text, update

from receiver.arrivals import ArrivalIds
from receiver.bulk import insert_mappings
from receiver.columns import UtcDateTime
from receiver.database import Database
from receiver.deliveries import ATTEMPTS, BODIES, DELIVERIES, State, in_state, kept_reason
from receiver.filing import Accepted, Arrival, file

#: The channel on which PostgreSQL tells workers elsewhere that something was accepted.
CHANNEL = "hookmirror_accepted"

#: The key of the advisory lock under which deliveries are claimed on PostgreSQL.
CLAIM_LOCK = 0x686F6F6B0002


@dataclass(frozen=True, slots=True)
class Claimed:
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


@dataclass(frozen=True, slots=True)
class Due:
    """Whether there is something to claim, among the ordinary deliveries and among the suspects."""

    ordinary: bool
    suspect: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an attempt ended, to be recorded in the transaction that holds its effect."""

    delivery_id: int
    state: State
    outcome: str | None = None
    reason: str | None = None
    #: When to try again, if the state is pending.
    due_at: datetime | None = None
    #: Whether the attempt failed, and is to be kept as such; `number` is which one it was.
    failed: bool = False
    number: int = 0
    #: What the worker read in the body, where that differs from what was known when it was accepted.
    event_type: str | None = None
    entity: tuple[str, str] | None = None
    occurred_at: datetime | None = None


class Inbox:
    """The verbs of the delivery tables. Those that take a connection are part of the caller's transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._ids = ArrivalIds()

    # ── accept ────────────────────────────────────────────────────────────────────────────────────────────────

    def accept(self, arrivals: Sequence[Arrival]) -> list[Accepted]:
        """Keep the arrivals durably, in one transaction; the answers stand in the same order.

        Returns only after the commit. Raises SQLAlchemy's error if nothing was kept.
        """
        numbered = [(self._ids.draw(), arrival) for arrival in arrivals]
        with self.database.write() as connection:
            answers = file(connection, numbered)
            if self.database.is_postgresql:
                connection.execute(_NOTIFY)
        return answers

    # ── claim and settle ──────────────────────────────────────────────────────────────────────────────────────

    def claim(
        self, worker: str, *, limit: int, now: datetime, lease: timedelta, suspect: bool = False
    ) -> list[Claimed]:
        """Take up to `limit` due deliveries, oldest first, and count the attempt; an entity being worked on waits.

        A suspect, whose last attempt never ended, is claimed only with `suspect=True`: alone, so ask for one.
        """
        statement, parameters = _DUE, {"now": now, "suspect": suspect, "limit": limit}
        with self.database.write() as connection:
            if self.database.is_postgresql:
                # One claim at a time: two that do not see each other could both take deliveries of one entity.
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": CLAIM_LOCK})
                statement = _DUE.with_for_update(of=DELIVERIES, skip_locked=True)
            rows = connection.execute(statement, parameters).mappings().all()
            if rows:
                taken = {"ids": [row["id"] for row in rows], "worker": worker, "until": now + lease}
                connection.execute(_TAKE, taken)
        return [_claimed(row) for row in sorted(rows, key=lambda row: row["id"])]

    def extend(self, worker: str, ids: Sequence[int], *, until: datetime) -> None:
        """Keep the leases of deliveries that are still being worked on."""
        with self.database.write() as connection:
            connection.execute(update(DELIVERIES).where(self._held(worker, ids)).values(lease_until=until))

    def held(self, connection: Connection, worker: str, ids: Sequence[int]) -> set[int]:
        """Which of these the worker still holds; they stay so until the transaction ends."""
        return set(connection.execute(_HELD, {"ids": list(ids), "worker": worker}).scalars())

    def settle(self, connection: Connection, worker: str, endings: Sequence[Ending], *, now: datetime) -> None:
        """Record how these attempts ended."""
        alike: dict[tuple[Any, ...], list[int]] = {}
        for ending in endings:
            alike.setdefault(_ending_values(ending, now), []).append(ending.delivery_id)
        for values, ids in alike.items():
            statement = update(DELIVERIES).where(DELIVERIES.c.id.in_(ids))
            connection.execute(statement.values(claimed_by=None, lease_until=None, suspect=False, **dict(values)))
        insert_mappings(
            connection, ATTEMPTS, [_attempt_row(ending, worker, now) for ending in endings if ending.failed]
        )

    def release(self, worker: str) -> None:
        """Give back what the worker claimed and has not begun, as if it had not been claimed."""
        with self.database.write() as connection:
            given_back = update(DELIVERIES).where(in_state(State.PROCESSING), DELIVERIES.c.claimed_by == worker)
            connection.execute(
                given_back.values(
                    state=State.PENDING.value, attempts=DELIVERIES.c.attempts - 1, claimed_by=None, lease_until=None
                )
            )

    def take_over(self, *, now: datetime, gone: Sequence[str], max_attempts: int) -> int:
        """Make claimable again what workers left behind: those named in `gone`, and all whose lease has ended.

        Their attempt counts: who used up the last one is dead. Returns how many deliveries were taken over.
        """
        left = and_(
            in_state(State.PROCESSING), (DELIVERIES.c.lease_until < now) | DELIVERIES.c.claimed_by.in_(list(gone))
        )
        found = select(DELIVERIES.c.id, DELIVERIES.c.attempts, DELIVERIES.c.claimed_by, DELIVERIES.c.suspect).where(
            left
        )
        with self.database.read() as connection:
            if connection.execute(found.limit(1)).first() is None:
                return 0
        with self.database.write() as connection:
            rows = connection.execute(found.order_by(DELIVERIES.c.id).with_for_update(skip_locked=True)).all()
            # Only an attempt made alone convicts: in a batch, any of them may have ended the worker.
            endings = [_lost(row.id, row.attempts, now, row.suspect and row.attempts >= max_attempts) for row in rows]
            for row, ending in zip(rows, endings, strict=True):
                self.settle(connection, row.claimed_by, [ending], now=now)
            statement = update(DELIVERIES).where(DELIVERIES.c.id.in_([row.id for row in rows]))
            connection.execute(statement.values(suspect=True))
        return len(rows)

    def workers(self) -> list[str]:
        """The workers that hold a lease."""
        statement = select(DELIVERIES.c.claimed_by).where(in_state(State.PROCESSING)).distinct()
        with self.database.read() as connection:
            return [worker for worker in connection.execute(statement).scalars() if worker is not None]

    def replay(self, ids: Iterable[int], *, now: datetime) -> int:
        """Send deliveries that have ended through again, with all their attempts. Returns how many there were.

        Those whose body has expired are left as they are.
        """
        ended = DELIVERIES.c.state.in_([State.PROCESSED.value, State.IGNORED.value, State.DEAD.value])
        with self.database.write() as connection:
            has_body = exists().where(BODIES.c.delivery_id == DELIVERIES.c.id)
            again = update(DELIVERIES).where(DELIVERIES.c.id.in_(list(ids)), ended, has_body)
            result = connection.execute(
                again.values(
                    state=State.PENDING.value, attempts=0, due_at=now, reason=None, outcome=None, ended_at=None
                )
            )
        return result.rowcount

    def due(self, now: datetime) -> Due:
        """What a claim would find, asked without holding anybody up."""
        pending = in_state(State.PENDING)
        ordinary, suspect = (
            exists().where(pending, DELIVERIES.c.suspect == kind, DELIVERIES.c.due_at <= now) for kind in (False, True)
        )
        with self.database.read() as connection:
            return Due(*connection.execute(select(ordinary, suspect)).one())

    def next_due(self) -> datetime | None:
        """When the earliest pending delivery is due; None if nothing is pending."""
        earliest = select(func.min(DELIVERIES.c.due_at)).where(in_state(State.PENDING))
        with self.database.read() as connection:
            return connection.execute(earliest).scalar()

    def oldest_due_seconds(self, now: datetime) -> float:
        """How long the delivery has waited that has been due for longest; 0 if none is due."""
        due = self.next_due()
        return max((now - due).total_seconds(), 0.0) if due is not None else 0.0

    @staticmethod
    def _held(worker: str, ids: Sequence[int]) -> Any:
        return and_(DELIVERIES.c.id.in_(ids), in_state(State.PROCESSING), DELIVERIES.c.claimed_by == worker)


def pending_entities(database: Database, source: str) -> set[str]:
    """The ids of the entities of one source that deliveries are still to be worked on about."""
    waiting = text("deliveries.state IN ('pending', 'processing')")
    statement = select(DELIVERIES.c.entity_id).where(DELIVERIES.c.source == source, waiting).distinct()
    with database.read() as connection:
        return {entity_id for entity_id in connection.execute(statement).scalars() if entity_id is not None}


_NOTIFY = text(f"NOTIFY {CHANNEL}")

_BUSY = DELIVERIES.alias("busy")

_ENTITY_IS_BUSY = exists().where(
    text("busy.state = 'processing'"),
    _BUSY.c.source == DELIVERIES.c.source,
    _BUSY.c.entity_kind == DELIVERIES.c.entity_kind,
    _BUSY.c.entity_id == DELIVERIES.c.entity_id,
)

#: Built once: putting a statement together costs as much as running it.
_DUE = (
    select(
        DELIVERIES.c.id,
        DELIVERIES.c.source,
        DELIVERIES.c.attempts,
        DELIVERIES.c.received_at,
        DELIVERIES.c.entity_kind,
        DELIVERIES.c.entity_id,
        BODIES.c.body,
        BODIES.c.plain,
    )
    .outerjoin(BODIES, BODIES.c.delivery_id == DELIVERIES.c.id)
    .where(in_state(State.PENDING), DELIVERIES.c.suspect == bindparam("suspect"))
    .where(DELIVERIES.c.due_at <= bindparam("now", type_=UtcDateTime()), ~_ENTITY_IS_BUSY)
    .order_by(DELIVERIES.c.due_at, DELIVERIES.c.id)
    .limit(bindparam("limit"))
)

_TAKE = (
    update(DELIVERIES)
    .where(DELIVERIES.c.id.in_(bindparam("ids", expanding=True)))
    .values(
        state=State.PROCESSING.value,
        attempts=DELIVERIES.c.attempts + 1,
        claimed_by=bindparam("worker"),
        lease_until=bindparam("until"),
    )
)

_HELD = (
    select(DELIVERIES.c.id)
    .where(DELIVERIES.c.id.in_(bindparam("ids", expanding=True)), in_state(State.PROCESSING))
    .where(DELIVERIES.c.claimed_by == bindparam("worker"))
    .order_by(DELIVERIES.c.id)
    .with_for_update()
)


def _claimed(row: RowMapping) -> Claimed:
    entity = (row["entity_kind"], row["entity_id"]) if row["entity_kind"] is not None else None
    plain = row["body"] if row["plain"] is None else row["plain"]
    return Claimed(row["id"], row["source"], row["attempts"] + 1, row["received_at"], plain, entity)


def _ending_values(ending: Ending, now: datetime) -> tuple[tuple[str, Any], ...]:
    values: dict[str, Any] = {
        "state": ending.state.value,
        "outcome": ending.outcome,
        "reason": kept_reason(ending.reason),
        "ended_at": None if ending.state is State.PENDING else now,
    }
    if ending.due_at is not None:
        values["due_at"] = ending.due_at
    if ending.event_type is not None:
        kind, entity_id = ending.entity or (None, None)
        values |= {
            "event_type": ending.event_type,
            "entity_kind": kind,
            "entity_id": entity_id,
            "occurred_at": ending.occurred_at,
        }
    return tuple(values.items())


def _lost(delivery_id: int, number: int, now: datetime, over: bool) -> Ending:
    return Ending(
        delivery_id=delivery_id,
        state=State.DEAD if over else State.PENDING,
        reason="The worker stopped or hung during this attempt.",
        due_at=now,
        failed=True,
        number=number,
    )


def _attempt_row(ending: Ending, worker: str, now: datetime) -> dict[str, Any]:
    return {
        "delivery_id": ending.delivery_id,
        "ended_at": now,
        "number": ending.number,
        "worker": worker,
        "reason": kept_reason(ending.reason) or "no reason was given",
    }
