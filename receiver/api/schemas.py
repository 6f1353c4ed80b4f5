"""What is answered over HTTP, as pydantic models: the shapes that `/openapi.json` shows.

Nothing is built from them, since the answers come from the database as they are; tests hold the two together.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, create_model
from sqlalchemy import Boolean, Integer, String

from receiver.database.columns import Document, ExactDecimal, UtcDateTime, by_kind
from receiver.database.pages import LARGEST_PAGE
from receiver.errors import NotVerified, Refused
from receiver.inbox.tables import State
from receiver.mirror.rows import MirrorRow, sql_table
from receiver.mirror.versions import Outcome
from receiver.search.rows import HIDDEN

#: The codes that verifiers give `NotVerified`.
NOT_VERIFIED = (
    *("signature_missing", "signature_malformed", "signature_repeated", "signature_wrong"),
    *("not_decryptable", "app_key_wrong", "body_compressed"),
)

#: What the values of a column are in Python, from which their form in JSON follows. Else they may be anything.
PYTHON_TYPES: tuple[tuple[Any, Any], ...] = (
    (ExactDecimal, Annotated[Decimal, WithJsonSchema({"type": "string", "format": "decimal"})]),
    (UtcDateTime, datetime),
    (Document, Any),
    (Boolean, bool),
    (Integer, int),
    (String, str),
)


def codes_of(kind: type[Refused]) -> tuple[str, ...]:
    """The error codes that a refusal of this class may have."""
    return NOT_VERIFIED if kind is NotVerified else (kind.code,)


#: Every class of them.
REFUSALS: tuple[type[Refused], ...] = (Refused, *Refused.__subclasses__())


class Shape(BaseModel):
    """An answer of ours: each of its members is always there, and no other."""

    model_config = ConfigDict(extra="forbid")


class Error(Shape):
    """Why a request was refused."""

    error: str = Field(json_schema_extra={"enum": [code for kind in REFUSALS for code in codes_of(kind)]})
    message: str = Field(description="What to do about it.")


class Accepted(Shape):
    """The webhook is safe."""

    status: Literal["accepted", "duplicate"]
    delivery: str = Field(description="The id of the delivery; for a duplicate, of the first.")


class Alive(Shape):
    status: Literal["alive"]


class Ready(Shape):
    status: Literal["ready"]
    warnings: list[str] = Field(description="What should not stay as it is, and loses nothing meanwhile.")


class NotReady(Shape):
    status: Literal["not ready"]
    reason: str


class Delivery(Shape):
    """One stored webhook."""

    id: str = Field(description="Grows with arrival. Text, because it is larger than a JavaScript number.")
    source: str
    event_type: str | None = Field(description="Null where the body could not be read.")
    entity: str | None = Field(description="Kind and id, as in `product:A1`; null where the body could not be read.")
    occurred_at: datetime | None = Field(description="The time of the change, at the source.")
    received_at: datetime
    state: State
    outcome: Outcome | None = Field(description="What it did to the mirror, once processed.")
    reason: str | None = Field(description="Why it is dead, ignored, or waits for another attempt.")
    ended_at: datetime | None
    attempts_made: int = Field(description="Since it was accepted or replayed.")
    next_attempt_at: datetime | None = Field(description="While it is pending.")
    duplicates: int = Field(description="How often the sender sent it again.")
    conflict: bool = Field(description="Whether its dedup key was used for another body before.")
    dedup_key: str
    secret: int | None = Field(description="Which secret verified it, from 0, newest first; null for an unsigned one.")


class Attempt(Shape):
    """An attempt that failed."""

    number: int
    ended_at: datetime
    worker: str
    reason: str


class WholeDelivery(Delivery):
    """One stored webhook with all that is kept about it."""

    headers: dict[str, str]
    body: str | None = Field(description="The bytes received; null after their retention.")
    body_encoding: Literal["utf-8", "base64"] | None
    plain: str | None = Field(description="What an encrypted body decrypts to.")
    attempts: list[Attempt] = Field(description="The failed ones, oldest first.")


class DeliveryPage(Shape):
    items: list[Delivery]
    next: str | None = Field(description="The `cursor` of the next page; null on the last one.")


class Replayed(Shape):
    status: Literal["pending"]
    delivery: str


class Tables(Shape):
    tables: list[str]


class Change(Shape):
    """One change of one row of the mirror."""

    seq: int = Field(description="Grows in commit order; numbers may be missing, changes never are.")
    table: str
    source: str
    external_id: str
    operation: Literal["insert", "update", "deactivate", "reactivate"]
    before: dict[str, Any] = Field(description="The columns that changed, as they were; empty for an insert.")
    after: dict[str, Any] = Field(description="The same columns as they became.")
    delivery_id: str | None = Field(description="The delivery that brought the news; null for a reconcile.")
    changed_at: datetime = Field(description="At the source.")
    recorded_at: datetime = Field(description="Here.")


class ChangePage(Shape):
    items: list[Change]
    next: int = Field(description="The value for the next `after`.")


class SourceStatistics(Shape):
    source: str
    states: dict[State, int]
    outcomes: dict[Outcome, int]
    duplicates: int
    oldest_pending_seconds: float | None
    freshness_seconds: float | None = Field(description="Of the newest processed delivery: from its change to its end.")
    last_delivery_at: datetime | None


class Statistics(Shape):
    sources: list[SourceStatistics]


def row_shape(table: type[MirrorRow]) -> type[Shape]:
    """A row of this table as the API shows it."""
    shown = [column for column in sql_table(table).columns if column.name not in HIDDEN]
    members: dict[str, Any] = {}
    for column in shown:
        kind = by_kind(column.type, PYTHON_TYPES, Any)
        members[str(column.name)] = (kind | None if column.nullable and kind is not Any else kind, ...)
    name = sql_table(table).name
    # By the table and not by its class: two packages may have a class of one name.
    shape = f"{name.title().replace('_', '')}Row"
    return create_model(shape, __base__=Shape, __doc__=f"A row of {name}.", **members)


def page_shape(row: type[Shape]) -> type[Shape]:
    """A page of such rows."""
    following: Any = (str | None, Field(description="The `cursor` of the next page; null on the last one."))
    return create_model(f"{row.__name__}Page", __base__=Shape, items=(list[row], ...), next=following)  # type: ignore[valid-type]


def history_shape(row: type[Shape]) -> type[Shape]:
    """Such a row and what became of it."""
    history = (list[Change], Field(description=f"The newest change first, at most {LARGEST_PAGE} and a page."))
    return create_model(f"{row.__name__}WithHistory", __base__=Shape, row=(row, ...), history=history)
