"""The inbox: the durable truth about every delivery, and the verbs that move it from state to state.

    accepted ─► pending ─► processing ─► processed
       │  │        ▲            ├──────► ignored      (the handler discarded it)
       │  │        ├── retry ───┤
       │  │        │            └──────► dead         (attempts used up, or not readable)
       │  └──► ignored (no handler) ─┐         │
       └─────► dead (unreadable) ────┴─ replay ┴─► pending

What changes stands in `deliveries`, what never changes in `bodies`, and what must outlive both in `dedup_keys`, whose
primary key is the deduplication.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    LargeBinary,
    RowMapping,
    Table,
    and_,
    bindparam,
    case,
    exists,
    false,
    func,
    select,
    text,
    tuple_,
    update,
)
from sqlmodel import Field, SQLModel

from receiver.arrivals import ArrivalIds
from receiver.bulk import insert_rows
from receiver.codec import storable
from receiver.columns import Document, UtcDateTime
from receiver.database import Database
from receiver.envelope import Envelope, unread_identity

#: Characters of a reason that are kept.
LONGEST_REASON = 2_000

#: Separates a dedup key from the fingerprint that tells two bodies under one key apart.
CONFLICT_MARK = "#"


class State(StrEnum):
    PENDING = "pending"
    PROCESSING = "processing"
    PROCESSED = "processed"
    IGNORED = "ignored"
    DEAD = "dead"


def _in_state(state: State) -> Any:
    # A literal, not a parameter: only then does either database see that its partial index applies.
    return text(f"deliveries.state = '{state}'")


class Delivery(SQLModel, table=True):
    """One stored webhook."""

    __tablename__ = "deliveries"

    #: Grows with arrival: see `receiver.arrivals`.
    id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    source: str
    #: None where the body could not be read.
    event_type: str | None = None
    entity_kind: str | None = None
    entity_id: str | None = None
    #: The time of the change, at the source.
    occurred_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    received_at: datetime = Field(sa_type=UtcDateTime)
    state: str
    #: Runs of the handler that were begun, since the delivery was accepted or replayed.
    attempts: int = Field(default=0, sa_column_kwargs={"server_default": text("0")})
    #: When a pending delivery may be claimed.
    due_at: datetime = Field(sa_type=UtcDateTime)
    #: Its last attempt never ended: it is claimed alone, so that it takes no other down.
    suspect: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    claimed_by: str | None = None
    lease_until: datetime | None = Field(default=None, sa_type=UtcDateTime)
    #: applied, tie, unchanged or stale, once processed.
    outcome: str | None = None
    #: Why it is dead, ignored, or waits for another attempt.
    reason: str | None = None
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    dedup_key: str
    #: The sender used this dedup key for another body too.
    conflict: bool = False
    #: How often the sender sent it again.
    duplicates: int = Field(default=0, sa_column_kwargs={"server_default": text("0")})
    #: Which of the source's secrets verified it, from 0, newest first; None for an unsigned one.
    secret: int | None = None

    __table_args__ = (
        Index(
            "ix_deliveries_due",
            "suspect",
            "due_at",
            "id",
            sqlite_where=text("state = 'pending'"),
            postgresql_where=text("state = 'pending'"),
        ),
        Index(
            "ix_deliveries_processing",
            "source",
            "entity_kind",
            "entity_id",
            sqlite_where=text("state = 'processing'"),
            postgresql_where=text("state = 'processing'"),
        ),
        Index(
            "ix_deliveries_dead",
            "id",
            sqlite_where=text("state = 'dead'"),
            postgresql_where=text("state = 'dead'"),
        ),
        Index("ix_deliveries_source", "source", "id"),
        Index("ix_deliveries_entity", "entity_id", "id"),
    )


class Body(SQLModel, table=True):
    """What a delivery consists of: never changed, and dropped when it expires."""

    __tablename__ = "bodies"

    delivery_id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    #: The exact bytes received.
    body: bytes = Field(sa_type=LargeBinary)
    #: What an encrypted body decrypts to; None if the body is plain.
    plain: bytes | None = Field(default=None, sa_type=LargeBinary)
    #: The headers worth keeping: see `receiver.endpoint.KEPT_HEADERS`.
    headers: dict[str, str] = Field(sa_type=Document)


class DedupKey(SQLModel, table=True):
    """One change that a source told us about: its primary key is what makes a second telling a duplicate."""

    __tablename__ = "dedup_keys"
    __table_args__ = {"sqlite_with_rowid": False}

    source: str = Field(primary_key=True)
    dedup_key: str = Field(primary_key=True)
    #: Tells another body under the same key from the same body again.
    fingerprint: bytes = Field(sa_type=LargeBinary)
    delivery_id: int = Field(sa_type=BigInteger)


class Attempt(SQLModel, table=True):
    """One attempt that did not succeed."""

    __tablename__ = "attempts"

    delivery_id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    #: When it ended, or was found to have ended.
    ended_at: datetime = Field(primary_key=True, sa_type=UtcDateTime)
    #: From 1; a replay begins again.
    number: int
    worker: str
    reason: str


DELIVERIES: Table = Delivery.__table__  # type: ignore[attr-defined]
BODIES: Table = Body.__table__  # type: ignore[attr-defined]
DEDUP_KEYS: Table = DedupKey.__table__  # type: ignore[attr-defined]
ATTEMPTS: Table = Attempt.__table__  # type: ignore[attr-defined]


@dataclass(slots=True, kw_only=True)
class Arrival:
    """A verified webhook on its way into the inbox."""

    source: str
    body: bytes
    #: What an encrypted body decrypts to; None if the body is plain.
    plain: bytes | None
    headers: dict[str, str]
    received_at: datetime
    secret: int | None
    dedup_key: str = ""
    fingerprint: bytes = b""
    #: pending, ignored (nobody handles its event type) or dead (it cannot be read).
    state: State = State.PENDING
    reason: str | None = None
    event_type: str = ""
    entity: tuple[str, str] | None = None
    occurred_at: datetime | None = None

    def know(self, envelope: Envelope) -> None:
        """Take over what the body says."""
        self.event_type, self.entity, self.occurred_at = envelope.event_type, envelope.entity, envelope.occurred_at
        self.dedup_key, self.fingerprint = envelope.identity(self.verified)

    def give_up(self, reason: str) -> None:
        """Nobody can read the body: kept all the same, to be replayed after a fix."""
        self.state, self.reason = State.DEAD, reason
        self.dedup_key, self.fingerprint = unread_identity(self.verified)

    def ignore(self, reason: str) -> None:
        self.state, self.reason = State.IGNORED, reason

    @property
    def verified(self) -> bytes:
        return self.body if self.plain is None else self.plain


@dataclass(frozen=True, slots=True)
class Accepted:
    """The answer to the sender: accepted or duplicate, and under which id it is kept."""

    status: str
    delivery_id: int


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
    #: The exact bytes received, the same as `plain` unless the source encrypts.
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
        filings = [_Filing(self._ids.draw(), arrival, arrival.dedup_key) for arrival in arrivals]
        with self.database.write() as connection:
            self._file(connection, filings)
            conflicting = [filing for filing in filings if filing.conflicts]
            for filing in conflicting:
                filing.mark_conflict()
            self._file(connection, conflicting)
            kept = [filing for filing in filings if filing.is_new]
            insert_rows(connection, DELIVERIES, [filing.delivery_row() for filing in kept])
            insert_rows(connection, BODIES, [filing.body_row() for filing in kept])
            if len(kept) < len(filings):
                self._note_duplicates(connection, [filing for filing in filings if not filing.is_new])
        return [filing.answer() for filing in filings]

    def _file(self, connection: Connection, filings: list[_Filing]) -> None:
        """Give each filing its dedup key, or the holder of that key: the database decides who comes first."""
        if not filings:
            return
        # In key order, so that two processes that file the same keys wait for each other instead of deadlocking.
        rows = [filing.key_row() for filing in sorted(filings, key=lambda filing: (filing.arrival.source, filing.key))]
        if insert_rows(connection, DEDUP_KEYS, rows, conflict="ON CONFLICT DO NOTHING") == len(rows):
            for filing in filings:
                filing.holder = None
            return
        holders = self._holders(connection, {(filing.arrival.source, filing.key) for filing in filings})
        for filing in filings:
            holder = holders[filing.arrival.source, filing.key]
            filing.holder = holder if holder["delivery_id"] != filing.number else None

    def _holders(self, connection: Connection, keys: set[tuple[str, str]]) -> dict[tuple[str, str], RowMapping]:
        statement = select(DEDUP_KEYS).where(tuple_(DEDUP_KEYS.c.source, DEDUP_KEYS.c.dedup_key).in_(sorted(keys)))
        return {(row["source"], row["dedup_key"]): row for row in connection.execute(statement).mappings()}

    def _note_duplicates(self, connection: Connection, filings: list[_Filing]) -> None:
        """Count them, and let the sender's insistence give a dead delivery one attempt more."""
        dead = _in_state(State.DEAD)
        statement = (
            update(DELIVERIES)
            .where(DELIVERIES.c.id == bindparam("known"))
            .values(
                duplicates=DELIVERIES.c.duplicates + 1,
                due_at=case((dead, bindparam("now", type_=UtcDateTime())), else_=DELIVERIES.c.due_at),
                attempts=case(
                    (and_(dead, DELIVERIES.c.attempts > 0), DELIVERIES.c.attempts - 1), else_=DELIVERIES.c.attempts
                ),
                ended_at=case((dead, None), else_=DELIVERIES.c.ended_at),
                state=case((dead, State.PENDING.value), else_=DELIVERIES.c.state),
            )
        )
        in_key_order = sorted(filings, key=lambda filing: filing.delivery_id)
        connection.execute(
            statement, [{"known": filing.delivery_id, "now": filing.arrival.received_at} for filing in in_key_order]
        )

    # ── claim and settle ──────────────────────────────────────────────────────────────────────────────────────

    def claim(
        self, worker: str, *, limit: int, now: datetime, lease: timedelta, suspect: bool = False
    ) -> list[Claimed]:
        """Take up to `limit` due deliveries, oldest first, and count the attempt; an entity being worked on waits.

        A suspect, whose last attempt never ended, is claimed only with `suspect=True`: alone, so ask for one.
        """
        busy = DELIVERIES.alias("busy")
        entity_is_busy = exists().where(
            text("busy.state = 'processing'"),
            busy.c.source == DELIVERIES.c.source,
            busy.c.entity_kind == DELIVERIES.c.entity_kind,
            busy.c.entity_id == DELIVERIES.c.entity_id,
        )
        due = (
            select(DELIVERIES.c.id)
            .where(text("deliveries.state = 'pending'"), DELIVERIES.c.suspect == suspect, DELIVERIES.c.due_at <= now)
            .where(~entity_is_busy)
            .order_by(DELIVERIES.c.due_at, DELIVERIES.c.id)
            .limit(limit)
        )
        with self.database.write() as connection:
            if self.database.is_postgresql:
                # One claim at a time: two that do not see each other could both take deliveries of one entity.
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": CLAIM_LOCK})
                due = due.with_for_update(skip_locked=True)
            ids = list(connection.execute(due).scalars())
            if not ids:
                return []
            taken = {"state": State.PROCESSING.value, "claimed_by": worker, "lease_until": now + lease}
            connection.execute(
                update(DELIVERIES).where(DELIVERIES.c.id.in_(ids)).values(attempts=DELIVERIES.c.attempts + 1, **taken)
            )
            found = select(DELIVERIES, BODIES.c.body, BODIES.c.plain).outerjoin(
                BODIES, BODIES.c.delivery_id == DELIVERIES.c.id
            )
            rows = connection.execute(found.where(DELIVERIES.c.id.in_(ids)).order_by(DELIVERIES.c.id)).mappings().all()
        return [_claimed(row) for row in rows]

    def extend(self, worker: str, ids: Sequence[int], *, until: datetime) -> None:
        """Keep the leases of deliveries that are still being worked on."""
        with self.database.write() as connection:
            connection.execute(update(DELIVERIES).where(self._held(worker, ids)).values(lease_until=until))

    def held(self, connection: Connection, worker: str, ids: Sequence[int]) -> set[int]:
        """Which of these the worker still holds; they stay so until the transaction ends."""
        statement = select(DELIVERIES.c.id).where(self._held(worker, ids)).order_by(DELIVERIES.c.id).with_for_update()
        return set(connection.execute(statement).scalars())

    def settle(self, connection: Connection, worker: str, endings: Sequence[Ending], *, now: datetime) -> None:
        """Record how these attempts ended."""
        alike: dict[tuple[Any, ...], list[int]] = {}
        for ending in endings:
            alike.setdefault(_ending_values(ending, now), []).append(ending.delivery_id)
        for values, ids in alike.items():
            statement = update(DELIVERIES).where(DELIVERIES.c.id.in_(ids))
            connection.execute(statement.values(claimed_by=None, lease_until=None, suspect=False, **dict(values)))
        insert_rows(connection, ATTEMPTS, [_attempt_row(ending, worker, now) for ending in endings if ending.failed])

    def release(self, worker: str) -> None:
        """Give back what the worker claimed and has not begun, as if it had not been claimed."""
        with self.database.write() as connection:
            given_back = update(DELIVERIES).where(_in_state(State.PROCESSING), DELIVERIES.c.claimed_by == worker)
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
            _in_state(State.PROCESSING), (DELIVERIES.c.lease_until < now) | DELIVERIES.c.claimed_by.in_(list(gone))
        )
        found = select(DELIVERIES.c.id, DELIVERIES.c.attempts, DELIVERIES.c.claimed_by).where(left)
        with self.database.read() as connection:
            if connection.execute(found.limit(1)).first() is None:
                return 0
        with self.database.write() as connection:
            rows = connection.execute(found.order_by(DELIVERIES.c.id).with_for_update(skip_locked=True)).all()
            endings = [_lost(row.id, row.attempts, now, max_attempts) for row in rows]
            for row, ending in zip(rows, endings, strict=True):
                self.settle(connection, row.claimed_by, [ending], now=now)
            statement = update(DELIVERIES).where(DELIVERIES.c.id.in_([row.id for row in rows]))
            connection.execute(statement.values(suspect=True))
        return len(rows)

    def workers(self) -> list[str]:
        """The workers that hold a lease."""
        statement = select(DELIVERIES.c.claimed_by).where(_in_state(State.PROCESSING)).distinct()
        with self.database.read() as connection:
            return [worker for worker in connection.execute(statement).scalars() if worker is not None]

    def replay(self, ids: Iterable[int], *, now: datetime) -> int:
        """Send deliveries that have ended through again, with all their attempts. Returns how many there were."""
        ended = DELIVERIES.c.state.in_([State.PROCESSED.value, State.IGNORED.value, State.DEAD.value])
        with self.database.write() as connection:
            again = update(DELIVERIES).where(DELIVERIES.c.id.in_(list(ids)), ended)
            result = connection.execute(
                again.values(
                    state=State.PENDING.value, attempts=0, due_at=now, reason=None, outcome=None, ended_at=None
                )
            )
        return result.rowcount

    def due(self, now: datetime) -> Due:
        """What a claim would find, asked without holding anybody up."""
        pending = text("deliveries.state = 'pending'")
        ordinary, suspect = (
            exists().where(pending, DELIVERIES.c.suspect == kind, DELIVERIES.c.due_at <= now) for kind in (False, True)
        )
        with self.database.read() as connection:
            return Due(*connection.execute(select(ordinary, suspect)).one())

    def next_due(self) -> datetime | None:
        """When the earliest pending delivery is due; None if nothing is pending."""
        earliest = select(func.min(DELIVERIES.c.due_at)).where(_in_state(State.PENDING))
        with self.database.read() as connection:
            return connection.execute(earliest).scalar()

    @staticmethod
    def _held(worker: str, ids: Sequence[int]) -> Any:
        return and_(DELIVERIES.c.id.in_(ids), _in_state(State.PROCESSING), DELIVERIES.c.claimed_by == worker)


#: The key of the advisory lock under which deliveries are claimed on PostgreSQL.
CLAIM_LOCK = 0x686F6F6B0002


@dataclass(slots=True)
class _Filing:
    """An arrival on its way into the tables."""

    number: int
    arrival: Arrival
    key: str
    #: Whoever had the dedup key already.
    holder: RowMapping | None = None
    conflict: bool = False

    @property
    def is_new(self) -> bool:
        return self.holder is None

    @property
    def conflicts(self) -> bool:
        return self.holder is not None and self.holder["fingerprint"] != self.arrival.fingerprint

    @property
    def delivery_id(self) -> int:
        return self.number if self.holder is None else self.holder["delivery_id"]

    def mark_conflict(self) -> None:
        self.key = f"{self.arrival.dedup_key}{CONFLICT_MARK}{self.arrival.fingerprint.hex()}"
        self.conflict = True

    def answer(self) -> Accepted:
        return Accepted("accepted" if self.is_new else "duplicate", self.delivery_id)

    def key_row(self) -> dict[str, Any]:
        return {
            "source": self.arrival.source,
            "dedup_key": self.key,
            "fingerprint": self.arrival.fingerprint,
            "delivery_id": self.number,
        }

    def delivery_row(self) -> dict[str, Any]:
        arrival = self.arrival
        kind, entity_id = arrival.entity or (None, None)
        return {
            "id": self.number,
            "source": arrival.source,
            "event_type": arrival.event_type or None,
            "entity_kind": kind,
            "entity_id": entity_id,
            "occurred_at": arrival.occurred_at,
            "received_at": arrival.received_at,
            "state": arrival.state.value,
            "due_at": arrival.received_at,
            "reason": _reason(arrival.reason),
            "ended_at": None if arrival.state is State.PENDING else arrival.received_at,
            "dedup_key": self.key,
            "conflict": self.conflict,
            "secret": arrival.secret,
        }

    def body_row(self) -> dict[str, Any]:
        arrival = self.arrival
        return {
            "delivery_id": self.number,
            "body": arrival.body,
            "plain": arrival.plain,
            "headers": arrival.headers,
        }


def _claimed(row: RowMapping) -> Claimed:
    entity = (row["entity_kind"], row["entity_id"]) if row["entity_kind"] is not None else None
    plain = row["body"] if row["plain"] is None else row["plain"]
    return Claimed(row["id"], row["source"], row["attempts"], row["received_at"], plain, entity)


def _ending_values(ending: Ending, now: datetime) -> tuple[tuple[str, Any], ...]:
    values: dict[str, Any] = {
        "state": ending.state.value,
        "outcome": ending.outcome,
        "reason": _reason(ending.reason),
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


def _lost(delivery_id: int, number: int, now: datetime, max_attempts: int) -> Ending:
    over = number >= max_attempts
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
        "reason": _reason(ending.reason) or "no reason was given",
    }


def _reason(reason: str | None) -> str | None:
    return None if reason is None else storable(reason[:LONGEST_REASON])
