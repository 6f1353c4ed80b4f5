"""Refused requests that are kept for a while, because a secret added later may verify them.

Their content may come from strangers: it is bounded, never parsed, never logged, and dropped after a day.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any, ClassVar, Literal, NamedTuple

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
    literal,
    select,
)
from sqlmodel import Field, SQLModel

from receiver.database.bulk import insert_mappings
from receiver.database.columns import Document, UtcDateTime
from receiver.database.damage import DAMAGED, damage_of
from receiver.database.database import Database
from receiver.database.errors import retry_transaction
from receiver.inbox.ids import first_id_at
from receiver.inbox.tables import DeliveryId

#: The most bytes of a body that are shown.
SHOWN_BYTES = 2_048

#: The most requests that one transaction drops, and the bytes at which it ends (see `receiver.inbox.retention`).
DROPPED_REQUESTS_BATCH, DROPPED_REQUESTS_BYTES = 500, 16 * 1024 * 1024


class SentHeaders(Document):
    """The headers of a refused request."""

    shape: ClassVar[Any] = list[tuple[str, str]]
    mend = "Without its headers the request cannot be verified again: ask the sender to send it again."


class KeptRequest(SQLModel, table=True):
    """One refused request."""

    __tablename__ = "refused"
    __table_args__ = (Index("ix_refused_source", "source", "id", "size"),)

    #: Grows with arrival, like the ids of deliveries.
    id: int = Field(sa_column=Column(DeliveryId, primary_key=True, autoincrement=False))
    source: str
    #: The error code of the refusal.
    code: str
    received_at: datetime = Field(sa_type=UtcDateTime)
    #: Bytes of the body and the headers.
    size: int
    #: Pairs of name and value: the headers that verifying needs, those that a delivery would keep, and path and query.
    headers: Any = Field(sa_type=SentHeaders)
    body: bytes = Field(sa_type=LargeBinary)


REQUESTS: Table = KeptRequest.__table__  # type: ignore[attr-defined]

RefusedHeaders = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds on the kept requests of each source: number, bytes and age."""

    number: int
    bytes: int
    age: timedelta


class Refusal(NamedTuple):
    """A refused request to be kept."""

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
        headers = [
            (name.encode("latin-1", "replace"), value.encode("latin-1", "replace"))
            for name, value in shown_headers(row)
        ]
        return cls(row["id"], row["source"], row["code"], row["received_at"], headers, bytes(row["body"]))


def shown_headers(row: RowMapping) -> list[tuple[str, str]]:
    """The headers of a kept request, each a name and a value; damaged ones are a header that says so."""
    damage = damage_of(row["headers"])
    return row["headers"] if damage is None else [(DAMAGED, damage)]


class Total(NamedTuple):
    """The number and bytes of one source's kept requests."""

    source: str
    number: int
    bytes: int


def keep(connection: Connection, refusals: Sequence[Refusal], bounds: Bounds) -> None:
    """Insert these requests, and drop the oldest requests of each source that exceed its bounds."""
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
    """The next kept requests of a source, oldest first: at most `most` with `most_bytes` together, but at least one."""
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


def found(connection: Connection, source: str, request_id: int | None) -> Refusal | None:
    """One kept request of a source, by default the newest; None if there is none."""
    wanted = select(REQUESTS).where(REQUESTS.c.source == source).order_by(REQUESTS.c.id.desc()).limit(1)
    if request_id is not None:
        wanted = wanted.where(REQUESTS.c.id == request_id)
    row = connection.execute(wanted).mappings().one_or_none()
    return None if row is None else Refusal.of(row)


class KeptSince(NamedTuple):
    """The number of kept requests since a moment, and the arrivals of the first and the last; None without one."""

    number: int
    first: datetime | None
    last: datetime | None


def kept_since(connection: Connection, source: str, codes: Collection[str], after: datetime) -> KeptSince:
    """Count the kept requests of a source with one of these codes that came after `after`."""
    at = REQUESTS.c.received_at
    of_it = (REQUESTS.c.source == source, REQUESTS.c.code.in_(codes), REQUESTS.c.id >= first_id_at(after), at > after)
    ends = (extreme(at, type_=at.type) for extreme in (func.min, func.max))
    return KeptSince(*connection.execute(select(func.count(), *ends).where(*of_it)).one())


def take(connection: Connection, ids: Collection[int]) -> set[int]:
    """Drop these requests, which the same transaction accepts, and return the ids of those that still existed."""
    return set(connection.execute(delete(REQUESTS).where(REQUESTS.c.id.in_(ids)).returning(REQUESTS.c.id)).scalars())


def drop_some(connection: Connection, source: str | None = None) -> int:
    """Drop a batch of the kept requests of one source or of all, the oldest first, and return their number."""
    ids = _batch(connection, _sizes(source))
    return connection.execute(delete(REQUESTS).where(REQUESTS.c.id.in_(ids))).rowcount if ids else 0


def is_more_than_a_batch(connection: Connection, source: str | None = None) -> bool:
    """Whether more requests of one source or of all are kept than `drop_some` drops at once."""
    ids = _batch(connection, _sizes(source))
    further = _sizes(source).where(REQUESTS.c.id > ids[-1]).limit(1) if ids else None
    return further is not None and connection.execute(further).first() is not None


def _sizes(source: str | None) -> Select[int, int]:
    sizes = select(REQUESTS.c.id, REQUESTS.c.size)
    return sizes if source is None else sizes.where(REQUESTS.c.source == source)


def _batch(connection: Connection, wanted: Select[int, int]) -> list[int]:
    """The ids of the oldest of these requests, within the bounds of a transaction, but at least two if there are."""
    rows = connection.execute(wanted.order_by(REQUESTS.c.id).limit(DROPPED_REQUESTS_BATCH)).all()
    upto = accumulate(row.size for row in rows)
    within = sum(size <= DROPPED_REQUESTS_BYTES for size in upto)
    return [row.id for row in rows[: max(within, 2)]]


def prune(database: Database, *, age: timedelta, now: datetime) -> int:
    """Drop one batch of requests older than `age`, and return their number."""
    expired = select(REQUESTS.c.id, REQUESTS.c.size).where(REQUESTS.c.id < first_id_at(now - age))
    with database.read() as connection:
        ids = _batch(connection, expired)
    if ids:
        retry_transaction(lambda: _delete(database, ids))
    return len(ids)


def _delete(database: Database, ids: Sequence[int]) -> None:
    with database.write() as connection:
        connection.execute(delete(REQUESTS).where(REQUESTS.c.id.in_(ids)))


def totals(connection: Connection) -> list[Total]:
    """Sum up the kept requests by source."""
    counted = select(REQUESTS.c.source, func.count(), func.sum(REQUESTS.c.size)).group_by(REQUESTS.c.source)
    return [Total(source, number, int(size)) for source, number, size in connection.execute(counted)]


def sources_with_any(database: Database) -> list[str]:
    """The sources with kept requests."""
    with database.read() as connection:
        return sorted(connection.execute(select(REQUESTS.c.source).distinct()).scalars())


def _beginnings() -> Select[Any]:
    begins = func.substr(REQUESTS.c.body, 1, SHOWN_BYTES, type_=REQUESTS.c.body.type)
    # On SQLite, a part of an empty body is null.
    shown = func.coalesce(begins, literal(b"", REQUESTS.c.body.type)).label("begins")
    return select(*(column for column in REQUESTS.columns if column is not REQUESTS.c.body), shown)


def one(connection: Connection, request_id: int) -> RowMapping | None:
    """A kept request with the first bytes of its body; None if it is not kept."""
    return connection.execute(_beginnings().where(REQUESTS.c.id == request_id)).mappings().first()


def listed(*, source: str | None, before: int | None) -> Select[Any]:
    """Select the kept requests of one source or of all, newest first, each with the first bytes of its body."""
    found = _beginnings().order_by(REQUESTS.c.id.desc())
    if source is not None:
        found = found.where(REQUESTS.c.source == source)
    return found if before is None else found.where(REQUESTS.c.id < before)


def as_text(begins: bytes) -> tuple[str, Literal["text", "hex"]]:
    """Format the beginning of a body: as `text` if it is text, otherwise as `hex`."""
    try:
        # The last character may be incomplete.
        text = begins.decode("utf-8", "strict" if len(begins) < SHOWN_BYTES else "ignore")
    except UnicodeDecodeError:
        return begins.hex(), "hex"
    return (text, "text") if text.isprintable() or not _has_controls(text) else (begins.hex(), "hex")


def _has_controls(text: str) -> bool:
    return any(ord(each) < 32 and each not in "\t\r\n" for each in text)
