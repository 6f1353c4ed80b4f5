"""Filing: arrivals find their place in the inbox, or turn out to repeat what is there.

The database decides who comes first: a dedup key is inserted or it is not, and nobody looks before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, bindparam, case, select, tuple_, update

from receiver.bulk import insert_rows
from receiver.columns import UtcDateTime
from receiver.deliveries import BODIES, DEDUP_KEYS, DELIVERIES, State, in_state, kept_reason
from receiver.envelope import Envelope, unread_identity

KEY_COLUMNS = ("source", "dedup_key", "fingerprint", "delivery_id")

DELIVERY_COLUMNS = (
    "id",
    "source",
    "event_type",
    "entity_kind",
    "entity_id",
    "occurred_at",
    "received_at",
    "state",
    "due_at",
    "reason",
    "ended_at",
    "dedup_key",
    "conflict",
    "secret",
)

BODY_COLUMNS = ("delivery_id", "body", "plain", "headers")

#: Separates a dedup key from the fingerprint that tells two bodies under one key apart.
CONFLICT_MARK = "#"


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


def file(connection: Connection, numbered: Sequence[tuple[int, Arrival]]) -> list[Accepted]:
    """Keep the arrivals, each under the id drawn for it, as part of the caller's transaction.

    The answers stand in the same order.
    """
    filings = [_Filing(number, arrival, arrival.dedup_key) for number, arrival in numbered]
    _claim_keys(connection, filings)
    conflicting = [filing for filing in filings if filing.conflicts]
    for filing in conflicting:
        filing.mark_conflict()
    _claim_keys(connection, conflicting)
    kept = [filing for filing in filings if filing.is_new]
    insert_rows(connection, DELIVERIES, DELIVERY_COLUMNS, [filing.delivery_row() for filing in kept])
    insert_rows(connection, BODIES, BODY_COLUMNS, [filing.body_row() for filing in kept])
    if len(kept) < len(filings):
        _note_duplicates(connection, [filing for filing in filings if not filing.is_new])
    return [filing.answer() for filing in filings]


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

    def key_row(self) -> tuple[Any, ...]:
        """In the order of `KEY_COLUMNS`."""
        return self.arrival.source, self.key, self.arrival.fingerprint, self.number

    def delivery_row(self) -> tuple[Any, ...]:
        """In the order of `DELIVERY_COLUMNS`."""
        arrival = self.arrival
        kind, entity_id = arrival.entity or (None, None)
        return (
            self.number,
            arrival.source,
            arrival.event_type or None,
            kind,
            entity_id,
            arrival.occurred_at,
            arrival.received_at,
            arrival.state.value,
            arrival.received_at,
            kept_reason(arrival.reason),
            None if arrival.state is State.PENDING else arrival.received_at,
            self.key,
            self.conflict,
            arrival.secret,
        )

    def body_row(self) -> tuple[Any, ...]:
        """In the order of `BODY_COLUMNS`."""
        return self.number, self.arrival.body, self.arrival.plain, self.arrival.headers


def _claim_keys(connection: Connection, filings: list[_Filing]) -> None:
    """Give each filing its dedup key, or the holder of that key: the database decides who comes first."""
    if not filings:
        return
    # In key order, so that two processes that file the same keys wait for each other instead of deadlocking.
    rows = sorted(filing.key_row() for filing in filings)
    if insert_rows(connection, DEDUP_KEYS, KEY_COLUMNS, rows, conflict="ON CONFLICT DO NOTHING") == len(rows):
        for filing in filings:
            filing.holder = None
        return
    holders = _holders(connection, {(filing.arrival.source, filing.key) for filing in filings})
    for filing in filings:
        holder = holders[filing.arrival.source, filing.key]
        filing.holder = holder if holder["delivery_id"] != filing.number else None


def _holders(connection: Connection, keys: set[tuple[str, str]]) -> dict[tuple[str, str], RowMapping]:
    statement = select(DEDUP_KEYS).where(tuple_(DEDUP_KEYS.c.source, DEDUP_KEYS.c.dedup_key).in_(sorted(keys)))
    return {(row["source"], row["dedup_key"]): row for row in connection.execute(statement).mappings()}


def _note_duplicates(connection: Connection, filings: list[_Filing]) -> None:
    """Count them, and let the sender's insistence give a dead delivery one attempt more."""
    dead = in_state(State.DEAD)
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
    _restore_bodies(connection, in_key_order)
    connection.execute(
        statement, [{"known": filing.delivery_id, "now": filing.arrival.received_at} for filing in in_key_order]
    )


def _restore_bodies(connection: Connection, duplicates: Sequence[_Filing]) -> None:
    """Give dead deliveries their bodies back, if these have expired: here they come again."""
    ids = [filing.delivery_id for filing in duplicates]
    dead = select(DELIVERIES.c.id).where(DELIVERIES.c.id.in_(ids), in_state(State.DEAD))
    found = set(connection.execute(dead).scalars())
    rows = {filing.delivery_id: (filing.delivery_id, *filing.body_row()[1:]) for filing in duplicates}
    restored = [row for delivery_id, row in rows.items() if delivery_id in found]
    insert_rows(connection, BODIES, BODY_COLUMNS, restored, conflict="ON CONFLICT DO NOTHING")
