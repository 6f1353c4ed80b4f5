"""The envelope: the parts of a body that decide how it is handled; and the event, which a handler gets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, NamedTuple, TypeVar

from receiver.codec import encode, storable
from receiver.errors import Unreadable
from receiver.header_values import TrustedValue
from receiver.logs.safe_text import quoted, told
from receiver.moments import EPOCH, in_utc, is_zero

Data = TypeVar("Data")

#: Characters of an event type, kind or id; longer ones are refused.
LONGEST_NAME = 512

#: Bytes of the kind in UTF-8. PostgreSQL's index of claimed deliveries takes 2,704 for source, kind and id
#: together, and an id alone may have 2,048.
LONGEST_KIND = 512


class _ArrivalTime(datetime):
    """A moment that only its identity tells."""

    def __repr__(self) -> str:
        return "ARRIVAL"


#: The time of a change that its body does not date: when the delivery arrived, which is kept, and used again by every
#: attempt and replay. A datetime only by its type.
ARRIVAL: datetime = _ArrivalTime(1, 1, 1, tzinfo=UTC)


@dataclass(slots=True, kw_only=True)
class Envelope:
    """The parts of a body that decide how it is handled, taken from the signed bytes alone.

    Raises `Unreadable` if a part is not valid.
    """

    #: What happened, as the source says it: `product.updated`.
    event_type: str
    #: The kind and the id of the entity; None for an event about nothing in particular.
    entity: tuple[str, str] | None
    #: When the change occurred, with its offset; `ARRIVAL` where the body does not say it.
    occurred_at: datetime
    #: The dialect's object, parsed but not validated.
    data: Any
    #: The sender's own id for this change; None where it gives none, and the content identifies it.
    dedup_key: str | None = None
    #: A hash of the parts that two deliveries of one change share; None stands for the whole body.
    fingerprint: bytes | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.occurred_at, datetime):
            raise Unreadable(f"The time of the change is {quoted(self.occurred_at)}, and not a datetime.")
        if self.occurred_at.tzinfo is None:
            raise Unreadable("The time of the change has no offset: the dialect must say which zone it is in.")
        if self.dedup_key is not None:
            self.dedup_key = _text("dedup key", self.dedup_key)
        if self.fingerprint is not None and type(self.fingerprint) is not bytes:
            raise Unreadable(f"The fingerprint is {quoted(self.fingerprint)}, and not bytes.")
        given: Any = self.event_type
        if type(given) is TrustedValue:
            self.event_type = given.as_event_type()
        self.event_type = _name("event type", self.event_type)
        if self.entity is not None:
            kind, entity_id = self.entity
            self.entity = (_kind(kind), _name("entity id", entity_id))
        if (
            self.occurred_at.tzinfo is not UTC
            or type(self.occurred_at) is not datetime
            or self.occurred_at.year <= EPOCH.year
        ):
            self.occurred_at = _moment(self.occurred_at)

    def identity(self, plain: bytes) -> tuple[str, bytes]:
        """The dedup key and the fingerprint, both derived from the verified body where the dialect names none.

        A derived key begins with the time of the change in microseconds since 1970, so that keys of one time lie
        together in the index: random ones would touch a page of the database each. A key that no database takes is
        replaced by its hash.
        """
        fingerprint = self.fingerprint or hashlib.sha256(plain).digest()
        # With an empty key, all deliveries would count as duplicates of one.
        return (_key(self.dedup_key) if self.dedup_key else self._derived_key(fingerprint.hex())), fingerprint

    def lead(self) -> str:
        """What the dedup key begins with in `dedup_keys`: the time of the change, as a derived key does; often nothing.

        Only where the whole body is the fingerprint: then every repetition has the same time (docs/decisions/0042).
        """
        if not self.dedup_key or self.fingerprint is not None or self.occurred_at is ARRIVAL:
            return ""
        return lead_of(self.occurred_at)

    def identity_of_item(self, body: bytes, place: int) -> tuple[str, bytes]:
        """As `identity`, for one item of a bundle: `body` is the SHA-256 of the whole, `place` counts from 0.

        An item with an id of the sender's is the same wherever it comes again, so its fingerprint is of the item alone.
        """
        if self.dedup_key:
            return _key(self.dedup_key), self.fingerprint or self._digest(body, place)
        if self.fingerprint:
            return self._derived_key(self.fingerprint.hex()), self.fingerprint
        return self._derived_key(f"{body.hex()}-{place}"), body

    def date(self, received_at: datetime) -> None:
        """Fill in the time of a change that its body does not date."""
        if self.occurred_at is ARRIVAL:
            self.occurred_at = received_at

    def _derived_key(self, content: str) -> str:
        if self.occurred_at is ARRIVAL:
            return content
        return lead_of(self.occurred_at) + content

    def _digest(self, body: bytes, place: int) -> bytes:
        """A hash of what the item says."""
        moment = None if self.occurred_at is ARRIVAL else self.occurred_at
        try:
            said = encode([self.event_type, self.entity, moment, self.data])
        except Exception:
            # An object of the dialect's own, which only the body is sure to identify.
            said = body + place.to_bytes(8)
        return hashlib.sha256(said).digest()


class Bundle(NamedTuple):
    """The items of a body that tells of several events, in their order: each an envelope, or why it cannot be read."""

    items: Sequence[Envelope | Unreadable]

    def item(self, place: int | None) -> Envelope:
        """The envelope at this place, from 0. Raises `Unreadable` if it cannot be read, or there is none."""
        if place is None or place >= len(self.items):
            raise Unreadable(
                f"The body holds {len(self.items)} events with the code of today, and this delivery is number "
                f"{(place or 0) + 1}: let the envelope return one item for each event, in the order of the body."
            )
        found = self.items[place]
        if isinstance(found, Unreadable):
            raise found
        return found


#: What a body is read as.
ReadBody = Envelope | Bundle


def lead_of(moment: datetime) -> str:
    """A time in microseconds since 1970, as dedup keys begin with it."""
    return f"{int(moment.timestamp())}{moment.microsecond:06d}-"


def _key(key: str) -> str:
    if len(key) > LONGEST_NAME or storable(key) != key:
        return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
    return key


def _text(what: str, value: Any) -> str:
    """Exact text, because the methods of a subclass would run while it is stored, in a batch with other deliveries."""
    if type(value) is str:
        return value
    if not isinstance(value, str):
        raise Unreadable(f"The {what} is {quoted(value)}, and not text.")
    return str.__str__(value)


def _name(what: str, name: str) -> str:
    if type(name) is not str:
        name = _text(what, name)
    if not 0 < len(name) <= LONGEST_NAME:
        raise Unreadable(f"The {what} is empty or longer than {LONGEST_NAME} characters.")
    return name if name.isascii() and "\0" not in name else storable(name)


def _kind(name: str) -> str:
    kind = _name("entity kind", name)
    if not kind.isascii() and len(kind.encode()) > LONGEST_KIND:
        raise Unreadable(f"The entity kind is longer than {LONGEST_KIND} bytes.")
    return kind


def _moment(moment: datetime) -> datetime:
    if moment is ARRIVAL:
        return moment
    if is_zero(moment):
        raise Unreadable(f"The time of the change is {moment.isoformat()}, which says that there is none.")
    try:
        moved = in_utc(moment)
    except ValueError as error:
        raise Unreadable(f"The time of the change is {quoted(moment)}: {told(error)}.") from None
    # A plain datetime, for the reason that `_text` gives.
    return datetime.combine(moved.date(), moved.time(), UTC) if type(moved) is not datetime else moved


def unread_identity(plain: bytes) -> tuple[str, bytes]:
    """The dedup key and the fingerprint of a body that no envelope can be read from."""
    fingerprint = hashlib.sha256(plain).digest()
    return fingerprint.hex(), fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(Generic[Data]):
    """What a handler gets: one thing that happened, and which delivery told us."""

    #: The name of the source in the settings; two accounts of one system are two sources.
    source: str
    event_type: str
    entity_kind: str
    entity_id: str
    #: When the change occurred, in UTC. The mirror orders by it.
    occurred_at: datetime
    #: The dialect's object, as the model that the handler's annotation names.
    data: Data
    #: What the dialect's hydrate function returned; None without one.
    hydrated: Any = None
    #: The delivery's id: the same in the answer to the sender, the API, the logs and the change feed.
    delivery_id: str
    #: Which run of the handler this is, from 1.
    attempt: int
    #: When the delivery was received, in UTC.
    received_at: datetime
    #: The time from then to the beginning of this attempt: long after a retry or a replay.
    waited: timedelta = timedelta()
    #: Whether the delivery is dead if this attempt fails.
    is_last: bool = False
    #: How long after its arrival the source's API may be behind the event (the source's `api_lag_seconds`).
    api_lag: timedelta = timedelta(minutes=1)
