"""The envelope: the parts of a body that decide how it is handled; and the event, which a handler gets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, NamedTuple, TypeVar

from msgspec import Struct
from msgspec.structs import force_setattr

from receiver.codec import encode, storable
from receiver.errors import Unreadable
from receiver.header_values import TrustedValue
from receiver.logs.safe_text import quoted, told
from receiver.moments import EPOCH, in_utc, is_shrunk, is_zero

Data = TypeVar("Data")

#: Characters of an event type, kind or id; longer ones are refused.
LONGEST_NAME = 512

#: Bytes of a fingerprint whose digits are in a dedup key. A longer one is hashed, because an index of PostgreSQL might
#: not take its key. A shorter one stays as earlier deliveries have it, so that retries of these are still recognised.
LONGEST_FINGERPRINT = 1_000

#: Bytes of the kind in UTF-8. PostgreSQL's index of claimed deliveries takes 2,704 for source, kind and id
#: together, and an id alone may have 2,048.
LONGEST_KIND = 512


class _ArrivalTime(datetime):
    """A time that is recognised by its identity alone."""

    def __repr__(self) -> str:
        return "ARRIVAL"


#: The time of a change that the body does not date. It stands for the arrival of the delivery, which every attempt and
#: replay reads again; its own value means nothing.
ARRIVAL: datetime = _ArrivalTime(1, 1, 1, tzinfo=UTC)


class Envelope(Struct, frozen=True, kw_only=True):
    """The parts of a body that decide how it is handled, taken from the signed bytes alone.

    Raises `Unreadable` if a part is not valid. An envelope cannot be changed, so that all its parts stay valid.
    """

    #: The event type in the source's words: `product.updated`.
    event_type: str
    #: The kind and the id of the entity; None for an event without one.
    entity: tuple[str, str] | None
    #: The time of change, with its offset; `ARRIVAL` if the body does not give it.
    occurred_at: datetime
    #: The dialect's object, parsed but not validated.
    data: Any
    #: The sender's own id for this change; None if it gives none, so that the content identifies the change.
    dedup_key: str | None = None
    #: A hash of the parts that two deliveries of one change share; None stands for the whole body.
    fingerprint: bytes | None = None
    #: Whether everything that dates the change is in the fingerprint, so that every repetition has the same time.
    fingerprint_covers_time: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.occurred_at, datetime):
            raise Unreadable(f"The time of the change is {quoted(self.occurred_at)} instead of a datetime.")
        if self.occurred_at.tzinfo is None:
            raise Unreadable(
                "The time of the change has no offset from UTC: attach the sender's zone in the envelope function, "
                "with `.replace(tzinfo=ZONE)`; if the sender writes an offset, annotate the time as `AwareDatetime`."
            )
        if self.dedup_key is not None and type(self.dedup_key) is not str:
            force_setattr(self, "dedup_key", _text("dedup key", self.dedup_key))
        if self.fingerprint is not None and type(self.fingerprint) is not bytes:
            raise Unreadable(f"The fingerprint is {quoted(self.fingerprint)} instead of bytes.")
        if not _is_usual(self.event_type):
            given: Any = self.event_type
            chosen = given.as_event_type() if type(given) is TrustedValue else given
            force_setattr(self, "event_type", _name("event type", chosen))
        if self.entity is not None:
            try:
                kind, entity_id = self.entity
            except (TypeError, ValueError):
                raise _not_a_pair(self.entity) from None
            if type(self.entity) is not tuple or not _is_usual(kind) or not _is_usual(entity_id):
                if not isinstance(self.entity, (tuple, list)):
                    # The two characters of a text would pass for a kind and an id.
                    raise _not_a_pair(self.entity)
                force_setattr(self, "entity", (_kind(kind), _name("entity id", entity_id)))
        if (
            self.occurred_at.tzinfo is not UTC
            or type(self.occurred_at) is not datetime
            or self.occurred_at.year <= EPOCH.year
        ):
            force_setattr(self, "occurred_at", _moment(self.occurred_at))
        if self.fingerprint_covers_time is not False and self.fingerprint_covers_time is not True:
            force_setattr(self, "fingerprint_covers_time", bool(self.fingerprint_covers_time))

    def identity(self, plain: bytes) -> tuple[str, bytes]:
        """The dedup key and the fingerprint; those that the dialect does not give are derived from the verified body.

        A derived key begins with the time of the change in microseconds since 1970, so that keys of one time lie
        together in the index; each random key would touch another page of the database. A key that no database column
        takes is replaced by its hash.
        """
        fingerprint = self.fingerprint or hashlib.sha256(plain).digest()
        # With an empty key, all deliveries would count as duplicates of one.
        if self.dedup_key:
            return _key(self.dedup_key), fingerprint
        return self._derived_key(content_of(fingerprint) if self.fingerprint else fingerprint.hex()), fingerprint

    def lead(self) -> str:
        """The lead of the dedup key in `dedup_keys`: the time of the change, or empty.

        A key has a lead only if the fingerprint covers the time, as that of the whole body does, so that every
        repetition has the same time (docs/decisions/0042).
        """
        covers_time = self.fingerprint is None or self.fingerprint_covers_time
        if not self.dedup_key or not covers_time or self.occurred_at is ARRIVAL:
            return ""
        return lead_of(self.occurred_at)

    def identity_of_item(self, body: bytes, place: int) -> tuple[str, bytes]:
        """The same for one item of a bundle: `body` is the SHA-256 of the whole body, `place` counts from 0.

        An item with an id of the sender's is the same item in any other bundle, so its fingerprint covers the item
        alone.
        """
        if self.dedup_key:
            return _key(self.dedup_key), self.fingerprint or self._digest(body, place)
        if self.fingerprint:
            return self._derived_key(content_of(self.fingerprint)), self.fingerprint
        return self._derived_key(f"{body.hex()}-{place}"), body

    def dated(self, received_at: datetime) -> datetime:
        """The time of the change; the time of arrival, `received_at`, if the body does not date it."""
        return received_at if self.occurred_at is ARRIVAL else self.occurred_at

    def _derived_key(self, content: str) -> str:
        if self.occurred_at is ARRIVAL:
            return content
        return lead_of(self.occurred_at) + content

    def _digest(self, body: bytes, place: int) -> bytes:
        """Hash the content of the item."""
        moment = None if self.occurred_at is ARRIVAL else self.occurred_at
        try:
            said = encode([self.event_type, self.entity, moment, self.data])
        except Exception:
            # The data has an object that JSON cannot encode, so the body and the item's place identify the item.
            said = body + place.to_bytes(8)
        return hashlib.sha256(said).digest()


class Bundle(NamedTuple):
    """The items of a body with several events, in order: each an envelope, or the error of reading it."""

    items: Sequence[Envelope | Unreadable]

    def item(self, place: int | None) -> Envelope:
        """The envelope at this place, from 0. Raises `Unreadable` if it cannot be read, or there is none."""
        if place is None or place >= len(self.items):
            raise Unreadable(
                f"The body holds {len(self.items)} events by today's code, and this delivery is number "
                f"{(place or 0) + 1}: let the envelope return one item for each event, in the order of the body."
            )
        found = self.items[place]
        if isinstance(found, Unreadable):
            raise found
        return found


#: The result of reading a body.
ReadBody = Envelope | Bundle


def lead_of(moment: datetime) -> str:
    """Format the lead of a dedup key: a time in microseconds since 1970."""
    return f"{int(moment.timestamp())}{moment.microsecond:06d}-"


def content_of(fingerprint: bytes) -> str:
    """The part of a derived dedup key that is made from the fingerprint."""
    digits = fingerprint.hex()
    return digits if len(digits) <= 2 * LONGEST_FINGERPRINT else hashlib.sha256(digits.encode()).hexdigest()


def _key(key: str) -> str:
    if len(key) > LONGEST_NAME or storable(key) != key:
        return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
    return key


def _text(what: str, value: Any) -> str:
    """Convert a subclass of text into plain text, because its methods would run while a whole batch is stored."""
    if not isinstance(value, str):
        raise Unreadable(f"The {what} is {quoted(value)} instead of text.")
    return str.__str__(value)


def _is_usual(name: Any) -> bool:
    """Whether this is ASCII text of a permitted length, which stays as it is; nearly every name is."""
    return type(name) is str and 0 < len(name) <= LONGEST_NAME and name.isascii() and "\0" not in name


def _name(what: str, name: str) -> str:
    if type(name) is not str:
        name = _text(what, name)
    if not 0 < len(name) <= LONGEST_NAME:
        raise Unreadable(f"The {what} is empty or longer than {LONGEST_NAME} characters.")
    return name if name.isascii() and "\0" not in name else storable(name)


def _not_a_pair(entity: object) -> Unreadable:
    return Unreadable(
        f'The entity is {quoted(entity)} instead of its kind and its id: write such as `entity=("product", body.id)`.'
    )


def _kind(name: str) -> str:
    kind = _name("entity kind", name)
    if not kind.isascii() and len(kind.encode()) > LONGEST_KIND:
        raise Unreadable(f"The entity kind is longer than {LONGEST_KIND} bytes.")
    return kind


def _moment(moment: datetime) -> datetime:
    if moment is ARRIVAL:
        return moment
    if is_zero(moment):
        raise Unreadable(f"The time of the change is {moment.isoformat()}, which programs write for a missing time.")
    if is_shrunk(moment):
        raise Unreadable(
            f"The time of the change is {moment.isoformat()}, as if a time in seconds were read as milliseconds: do "
            "not divide it by 1000 in the envelope function."
        )
    try:
        moved = in_utc(moment)
    except ValueError as error:
        raise Unreadable(f"The time of the change is {moment.isoformat()}: {told(error)}.") from None
    # A plain datetime, for the reason that `_text` gives.
    return datetime.combine(moved.date(), moved.time(), UTC) if type(moved) is not datetime else moved


def unread_identity(plain: bytes) -> tuple[str, bytes]:
    """The dedup key and the fingerprint of a body whose envelope cannot be read."""
    fingerprint = hashlib.sha256(plain).digest()
    return fingerprint.hex(), fingerprint


class Event(Struct, Generic[Data], frozen=True, kw_only=True):
    """The input of a handler: one event, with the delivery that brought it."""

    # Not a dataclass: if it is frozen, making one takes ten times as long.

    #: The name of the source in the settings; two accounts of one system are two sources.
    source: str
    event_type: str
    entity_kind: str
    entity_id: str
    #: The time of change, in UTC, by which the mirror orders.
    occurred_at: datetime
    #: The dialect's object, as an instance of the model that the handler's annotation names.
    data: Data
    #: The result of the dialect's hydrate function; None without one.
    hydrated: Any = None
    #: The delivery's id: the same in the answer to the sender, the API, the logs and the change feed.
    delivery_id: str
    #: The number of the attempt in its round, from 1.
    attempt: int
    #: The time of arrival, in UTC.
    received_at: datetime
    #: The time from the arrival to the beginning of this attempt, which is long after a retry or a replay.
    waited: timedelta = timedelta()
    #: Whether the delivery is dead if this attempt fails.
    is_last: bool = False
    #: The time after an arrival for which the source's API may lack the change (the source's `api_lag_seconds`).
    api_lag: timedelta = timedelta(minutes=1)
