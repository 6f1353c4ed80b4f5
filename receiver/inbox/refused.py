"""Refused requests that are kept for a while: a secret that is added later may show that they were authentic.

They are bytes of strangers: bounded, never parsed, never logged, and gone after a day.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from sqlalchemy import (
    Column,
    Connection,
    Index,
    LargeBinary,
    RowMapping,
    Select,
    Table,
    delete,
    func,
    select,
)
from sqlmodel import Field, SQLModel

from receiver.database.bulk import insert_mappings
from receiver.database.columns import Document, UtcDateTime
from receiver.database.database import Database
from receiver.database.errors import retry_transaction
from receiver.inbox.ids import first_id_at
from receiver.inbox.tables import DeliveryId

#: Bytes of a body that are shown.
SHOWN_BYTES = 2_048

#: Requests dropped in one transaction.
DROPPED_REQUESTS_BATCH = 500


class KeptRequest(SQLModel, table=True):
    """One refused request."""

    __tablename__ = "refused"
    __table_args__ = (Index("ix_refused_source", "source", "id", "size"),)

    #: Grows with arrival, as those of deliveries do.
    id: int = Field(sa_column=Column(DeliveryId, primary_key=True, autoincrement=False))
    source: str
    #: Why it was refused.
    code: str
    received_at: datetime = Field(sa_type=UtcDateTime)
    #: Bytes of body and headers.
    size: int
    #: Those that verifying needs and those that a delivery would keep, a name and a value each.
    headers: Any = Field(sa_type=Document)
    body: bytes = Field(sa_type=LargeBinary)


REQUESTS: Table = KeptRequest.__table__  # type: ignore[attr-defined]

RefusedHeaders = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept of each source, and for how long."""

    number: int
    bytes: int
    age: timedelta


class Refusal(NamedTuple):
    """A request that was refused, as it is kept."""

    id: int
    source: str
    code: str
    received_at: datetime
    headers: RefusedHeaders
    body: bytes

    @property
    def size(self) -> int:
        return len(self.body) + sum(len(name) + len(value) for name, value in self.headers)

    def as_row(self) -> dict[str, Any]:
        headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in self.headers]
        return {
            "id": self.id,
            "source": self.source,
            "code": self.code,
            "received_at": self.received_at,
            "size": self.size,
            "headers": headers,
            "body": self.body,
        }

    @classmethod
    def of(cls, row: RowMapping) -> Refusal:
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in row["headers"]]
        return cls(row["id"], row["source"], row["code"], row["received_at"], headers, bytes(row["body"]))


class Total(NamedTuple):
    """What is kept of one source."""

    source: str
    number: int
    bytes: int


def keep(connection: Connection, refusals: Sequence[Refusal], bounds: Bounds) -> None:
    """Keep these, and of each source only the newest that its bounds have room for."""
    insert_mappings(connection, REQUESTS, [each.as_row() for each in refusals])
    for source in sorted({each.source for each in refusals}):
        _trim(connection, source, bounds)


def _trim(connection: Connection, source: str, bounds: Bounds) -> None:
    newest_first = (
        select(REQUESTS.c.id, REQUESTS.c.size).where(REQUESTS.c.source == source).order_by(REQUESTS.c.id.desc())
    )
    number = size = 0
    for row in connection.execute(newest_first):
        number, size = number + 1, size + row.size
        if number > bounds.number or size > bounds.bytes:
            connection.execute(delete(REQUESTS).where(REQUESTS.c.source == source, REQUESTS.c.id <= row.id))
            return


def behind(connection: Connection, source: str, after: int, *, most: int, most_bytes: int) -> list[Refusal]:
    """The next that are kept of a source, oldest first: at most so many, and so many bytes, but at least one."""
    following = (
        select(REQUESTS.c.id, REQUESTS.c.size)
        .where(REQUESTS.c.source == source, REQUESTS.c.id > after)
        .order_by(REQUESTS.c.id)
        .limit(most)
    )
    chosen: list[int] = []
    size = 0
    for row in connection.execute(following):
        size += row.size
        if chosen and size > most_bytes:
            break
        chosen.append(row.id)
    found = select(REQUESTS).where(REQUESTS.c.id.in_(chosen)).order_by(REQUESTS.c.id)
    return [Refusal.of(row) for row in connection.execute(found).mappings()]


def take(connection: Connection, ids: Collection[int]) -> set[int]:
    """Drop these, to be accepted in the same transaction. Returns those that nobody else has taken or dropped."""
    return set(connection.execute(delete(REQUESTS).where(REQUESTS.c.id.in_(ids)).returning(REQUESTS.c.id)).scalars())


def drop(database: Database, source: str | None = None) -> int:
    """Drop what is kept, of one source or of all. Returns how many requests that were."""
    wanted = delete(REQUESTS) if source is None else delete(REQUESTS).where(REQUESTS.c.source == source)

    def run() -> int:
        with database.write() as connection:
            return connection.execute(wanted).rowcount

    return retry_transaction(run)


def prune(database: Database, *, age: timedelta, now: datetime) -> int:
    """Drop one batch of those that are older. Returns how many that were."""
    expired = (
        select(REQUESTS.c.id)
        .where(REQUESTS.c.id < first_id_at(now - age))
        .order_by(REQUESTS.c.id)
        .limit(DROPPED_REQUESTS_BATCH)
    )
    with database.read() as connection:
        ids = connection.execute(expired).scalars().all()
    if ids:
        retry_transaction(lambda: _delete(database, ids))
    return len(ids)


def _delete(database: Database, ids: Sequence[int]) -> None:
    with database.write() as connection:
        connection.execute(delete(REQUESTS).where(REQUESTS.c.id.in_(ids)))


def totals(connection: Connection) -> list[Total]:
    """What is kept, source by source."""
    counted = select(REQUESTS.c.source, func.count(), func.sum(REQUESTS.c.size)).group_by(REQUESTS.c.source)
    return [Total(source, number, int(size)) for source, number, size in connection.execute(counted)]


def sources_with_any(database: Database) -> list[str]:
    """The sources that something is kept of."""
    with database.read() as connection:
        return sorted(connection.execute(select(REQUESTS.c.source).distinct()).scalars())


def listed(*, source: str | None, before: int | None) -> Select[Any]:
    """Those of one source or of all, the newest first, each with the first bytes of its body."""
    shown = func.substr(REQUESTS.c.body, 1, SHOWN_BYTES).label("begins")
    columns = [column for column in REQUESTS.columns if column is not REQUESTS.c.body]
    found = select(*columns, shown).order_by(REQUESTS.c.id.desc())
    if source is not None:
        found = found.where(REQUESTS.c.source == source)
    return found if before is None else found.where(REQUESTS.c.id < before)


def as_text(begins: bytes) -> tuple[str, Literal["text", "hex"]]:
    """The beginning of a body for people, and how it is written: `text`, or `hex` where it is none."""
    try:
        # The last character may be cut.
        text = begins.decode("utf-8", "strict" if len(begins) < SHOWN_BYTES else "ignore")
    except UnicodeDecodeError:
        return begins.hex(), "hex"
    return (text, "text") if text.isprintable() or not _has_controls(text) else (begins.hex(), "hex")


def _has_controls(text: str) -> bool:
    return any(ord(each) < 32 and each not in "\t\r\n" for each in text)
