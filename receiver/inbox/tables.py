"""The tables of the inbox: `deliveries` with the changing columns, `bodies` with the constant ones, and `dedup_keys`,
which outlive both and whose primary key is the deduplication (docs/decisions/0004).

    accepted ─► pending ─► processing ─► processed
       │  │        ▲            ├──────► ignored      (the handler discarded it)
       │  │        ├── retry ───┤
       │  │        │            └──────► dead         (attempts used up, or not readable)
       │  └──► ignored (no handler) ─┐         │
       └─────► dead (unreadable) ────┴─ replay ┴─► pending
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    FromClause,
    Index,
    Integer,
    LargeBinary,
    Row,
    Table,
    Text,
    and_,
    bindparam,
    exists,
    false,
    func,
    select,
    text,
)
from sqlmodel import Field, SQLModel

from receiver.codec import storable
from receiver.database.columns import Many, UtcDateTime, among
from receiver.database.sqlite.stored_types import RowNumber
from receiver.envelope import lead_of
from receiver.inbox.documents import KeptAttempts, KeptHeaders
from receiver.inbox.states import ENDED as ENDED
from receiver.inbox.states import State as State

#: The longest stored reason, in characters.
LONGEST_REASON = 2_000

#: On SQLite, only with this type does the primary key serve as the row's number and need no index.
DeliveryId = BigInteger().with_variant(RowNumber, "sqlite")


def in_state(state: State) -> Any:
    # A literal, because neither database applies a partial index to a parameter.
    return text(f"deliveries.state = '{state}'")


#: The condition that a delivery is in a final state; a literal for the same reason.
HAS_ENDED = text(f"deliveries.state IN {tuple(map(str, ENDED))}")


class Delivery(SQLModel, table=True):
    """One stored webhook."""

    __tablename__ = "deliveries"

    #: Grows with arrival: see `receiver.inbox.ids`.
    id: int = Field(sa_column=Column(DeliveryId, primary_key=True, autoincrement=False))
    source: str
    #: None if the body could not be read.
    event_type: str | None = None
    entity_kind: str | None = None
    entity_id: str | None = None
    #: The time of the change at the source.
    occurred_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    received_at: datetime = Field(sa_type=UtcDateTime)
    state: str
    #: The number of attempts begun since the delivery was accepted or replayed.
    attempts: int = Field(default=0, sa_column_kwargs={"server_default": text("0")})
    #: The time from which on a pending delivery may be claimed.
    due_at: datetime = Field(sa_type=UtcDateTime)
    #: Whether its last attempt never ended. It is then claimed alone, so that it cannot end another delivery's attempt.
    suspect: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    claimed_by: str | None = None
    lease_until: datetime | None = Field(default=None, sa_type=UtcDateTime)
    #: applied, tie, unchanged or stale, once processed.
    outcome: str | None = None
    #: The reason for which it is dead, is ignored, or waits for another attempt.
    reason: str | None = None
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    dedup_key: str
    #: Whether the source used this dedup key for another body, too.
    conflict: bool = False
    #: The number of duplicates.
    duplicates: int = Field(default=0, sa_column_kwargs={"server_default": text("0")})
    #: The position of the secret that verified it, from 0 for the source's newest; None if unsigned.
    secret: int | None = None
    #: The number of its latest round, from 1. Earlier rounds are in `rounds`.
    round: int = Field(default=1, sa_column_kwargs={"server_default": text("1")})
    #: The position of the event in its bundle, from 0; None for the only event of a body.
    item: int | None = None
    #: The id under which its body is kept; None if that is the delivery's id.
    body_id: int | None = Field(default=None, sa_type=BigInteger)

    __table_args__ = (
        # To find out when a shared body may be dropped. Partial, because few deliveries share one.
        Index(
            "ix_deliveries_body",
            "body_id",
            sqlite_where=text("body_id IS NOT NULL"),
            postgresql_where=text("body_id IS NOT NULL"),
        ),
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
        # By event type, to count deliveries without a handler, and to offer them for replay once a handler exists.
        Index(
            "ix_deliveries_ignored",
            "source",
            "event_type",
            "id",
            sqlite_where=text("state = 'ignored'"),
            postgresql_where=text("state = 'ignored'"),
        ),
        Index("ix_deliveries_source", "source", "id"),
        # Partial, so that entries are made when a delivery ends: writing random pages would slow down the ack.
        Index(
            "ix_deliveries_entity",
            "entity_id",
            "id",
            sqlite_where=text("ended_at IS NOT NULL"),
            postgresql_where=text("ended_at IS NOT NULL"),
        ),
    )


class Body(SQLModel, table=True):
    """The content of a delivery: never changed, and dropped when it expires."""

    __tablename__ = "bodies"

    #: The id of the delivery; for a bundle, the id that was drawn for the first item.
    delivery_id: int = Field(sa_column=Column(DeliveryId, primary_key=True, autoincrement=False))
    #: The exact bytes received, except for an application key in plain text, which is removed.
    body: bytes = Field(sa_type=LargeBinary)
    #: The content of an encrypted or compressed body; None if the body is plain.
    plain: bytes | None = Field(default=None, sa_type=LargeBinary)
    #: The kept headers: see `receiver.dialects.headers`.
    headers: dict[str, str] = Field(sa_type=KeptHeaders)


class DedupKey(SQLModel, table=True):
    """The dedup key of one change. The primary key makes a second webhook about that change a duplicate."""

    __tablename__ = "dedup_keys"
    __table_args__ = {"sqlite_with_rowid": False}

    source: str = Field(primary_key=True)
    dedup_key: str = Field(primary_key=True)
    #: The hash of the body, which distinguishes a repetition from another body with the same key.
    fingerprint: bytes = Field(sa_type=LargeBinary)
    delivery_id: int = Field(sa_type=BigInteger)


class Round(SQLModel, table=True):
    """One round of a delivery that has had several.

    A delivery that was never replayed or repeated has no row here: its only round is part of `deliveries`.
    """

    __tablename__ = "rounds"

    delivery_id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    #: From 1, without gaps.
    number: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    #: The cause: see `receiver.inbox.rounds.Cause`.
    cause: str
    #: The run and the action that began the round; None without one.
    run: int | None = Field(default=None, sa_type=BigInteger)
    action: int | None = Field(default=None, sa_type=BigInteger)
    began_at: datetime = Field(sa_type=UtcDateTime)
    #: The end of the round; None for the latest round, whose end is in `deliveries`.
    state: str | None = None
    outcome: str | None = None
    reason: str | None = None
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)

    __table_args__ = (
        Index(
            "ix_rounds_run",
            "run",
            "delivery_id",
            sqlite_where=text("run IS NOT NULL"),
            postgresql_where=text("run IS NOT NULL"),
        ),
        {"sqlite_with_rowid": False},
    )


class FailedAttempt(SQLModel, table=True):
    """One failed attempt. Successful ones are in the settlements."""

    #: The name under which the previous release writes failures.
    __tablename__ = "attempts"
    __table_args__ = {"sqlite_with_rowid": False}

    delivery_id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    #: The time at which it ended, or was found to have ended.
    ended_at: datetime = Field(primary_key=True, sa_type=UtcDateTime)
    #: The number of the attempt in its round, from 1.
    number: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    worker: str
    #: The reason for the failure.
    reason: str
    #: The number of its round.
    round: int = Field(
        sa_column=Column(Integer, primary_key=True, autoincrement=False, server_default=text("1")),
    )
    #: The handler as `module.function`; None if none was reached.
    handler: str | None = None
    #: The release of Hookmirror that ran it.
    release: str | None = None
    #: Microseconds that hydrating and handling took; None for a step that did not run.
    hydrate_us: int | None = None
    handle_us: int | None = None
    #: Microseconds that the settling transaction of its batch took until it was recorded.
    settle_us: int | None = None
    #: The traceback of its error, bounded.
    traceback: str | None = None


class KeptSettlement(SQLModel, table=True):
    """The successful attempts of one settling transaction, in one row (docs/decisions/0026).

    It is found by the end of a round, because both have the same `ended_at`.
    """

    __tablename__ = "settlements"
    __table_args__ = {"sqlite_with_rowid": False}

    ended_at: datetime = Field(primary_key=True, sa_type=UtcDateTime)
    #: Drawn at random, to distinguish settlements of the same microsecond.
    id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    worker: str
    #: The release of Hookmirror that ran the attempts.
    release: str
    #: Microseconds that the transaction took until the attempts were recorded.
    settle_us: int
    #: Groups of attempts with the same handler, round and number.
    attempts: list[Any] = Field(sa_type=KeptAttempts)


DELIVERIES: Table = Delivery.__table__  # type: ignore[attr-defined]
BODIES: Table = Body.__table__  # type: ignore[attr-defined]
DEDUP_KEYS: Table = DedupKey.__table__  # type: ignore[attr-defined]
ROUNDS: Table = Round.__table__  # type: ignore[attr-defined]
ATTEMPTS: Table = FailedAttempt.__table__  # type: ignore[attr-defined]
SETTLEMENTS: Table = KeptSettlement.__table__  # type: ignore[attr-defined]


#: The id under which a delivery's body is kept.
BODY_ID = func.coalesce(DELIVERIES.c.body_id, DELIVERIES.c.id)


def has_body(deliveries: FromClause) -> ColumnElement[bool]:
    """The condition that a delivery's body is kept, and that it has not expired. Its columns are `id` and `body_id`."""
    return exists().where(BODIES.c.delivery_id == func.coalesce(deliveries.c.body_id, deliveries.c.id))


HAS_BODY = has_body(DELIVERIES)

#: Bytes of the verified content, the body or its decrypted bytes. Both databases know the length without reading the
#: content. A subquery, because a join could change the order in which an index is read.
BODY_SIZE = (
    select(func.coalesce(func.length(BODIES.c.plain), func.length(BODIES.c.body)))
    .where(BODIES.c.delivery_id == BODY_ID)
    .correlate(DELIVERIES)
    .scalar_subquery()
)

#: The condition for deliveries whose ids are in the parameter `ids`.
IDS = among(DELIVERIES.c.id, bindparam("ids", type_=Many(BigInteger)))

#: The condition for sources in the parameter `sources`. An expression instead of the plain column, so that databases
#: use the index of due deliveries and not the index of a source's whole history.
OF_SOURCES = among(DELIVERIES.c.source + "", bindparam("sources", type_=Many(Text)))


def dedup_keys_in(keys: Iterable[tuple[str, str]]) -> list[ColumnElement[bool]]:
    """Build conditions that find these keys, each a source and a dedup key; one condition per source.

    For a single condition with pairs, SQLite would read the whole table.
    """
    by_source = defaultdict(set)
    for source, dedup_key in keys:
        by_source[source].add(dedup_key)
    return [
        and_(DEDUP_KEYS.c.source == source, DEDUP_KEYS.c.dedup_key.in_(sorted(some)))
        for source, some in by_source.items()
    ]


def possible_keys(row: Row[Any]) -> Iterator[tuple[str, str]]:
    """The keys under which a delivery may stand in `dedup_keys`: its dedup key, with a lead or without."""
    yield row.source, row.dedup_key
    if row.occurred_at is not None:
        yield row.source, lead_of(row.occurred_at) + row.dedup_key


def kept_reason(reason: str | None) -> str | None:
    """Shorten a reason, and remove characters that a database refuses."""
    return None if reason is None else storable(reason[:LONGEST_REASON])
