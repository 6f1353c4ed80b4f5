"""Arrivals: verified webhooks on their way into the inbox, and the answers to their senders."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from receiver.envelope import ARRIVAL, Envelope, unread_identity
from receiver.inbox.tables import State


@dataclass(slots=True, kw_only=True)
class Arrival:
    """A verified webhook on its way into the inbox."""

    source: str
    body: bytes
    #: The content of an encrypted or compressed body; None if the body is plain.
    plain: bytes | None
    headers: dict[str, str]
    received_at: datetime
    secret: int | None
    #: The id of its delivery, drawn when it is accepted; 0 until then.
    id: int = 0
    dedup_key: str = ""
    fingerprint: bytes = b""
    #: What its dedup key begins with in `dedup_keys`, and nowhere else.
    lead: str = ""
    #: Whether its dedup key was used for another body.
    conflict: bool = False
    #: pending, ignored (no handler takes its event type) or dead (it cannot be read).
    state: State = State.PENDING
    reason: str | None = None
    event_type: str = ""
    entity: tuple[str, str] | None = None
    occurred_at: datetime | None = None
    #: Its place in a body that tells of several events, from 0; None for the only event of a body.
    item: int | None = None
    #: The id under which its body is kept; 0 for its own.
    body_id: int = 0
    #: Of the first item of a body: the arrivals of the others, in their order.
    others: Sequence[Arrival] = ()

    def know(self, envelope: Envelope, *, from_headers: bool = False) -> None:
        """Take over event type, dedup key, entity and time from the envelope.

        Of one that was read `from_headers`, too, the time may be that of the attempt, so it does not lead the key.
        """
        self._take(envelope)
        self.dedup_key, self.fingerprint = envelope.identity(self.body if self.plain is None else self.plain)
        self.lead = "" if from_headers else envelope.lead()

    def know_item(self, envelope: Envelope, body: bytes) -> None:
        """Fill in what the item says; `body` is the SHA-256 of the whole body."""
        assert self.item is not None
        self._take(envelope)
        self.dedup_key, self.fingerprint = envelope.identity_of_item(body, self.item)

    def _take(self, envelope: Envelope) -> None:
        self.event_type, self.entity, self.occurred_at = envelope.event_type, envelope.entity, envelope.occurred_at
        if self.occurred_at is ARRIVAL:
            self.occurred_at = self.received_at

    def give_up(self, reason: str) -> None:
        """Mark it dead, because its body cannot be read. It is stored all the same, and can be replayed after a fix."""
        self.state, self.reason = State.DEAD, reason
        self.dedup_key, self.fingerprint = unread_identity(self.verified)
        self.lead = ""

    def give_up_item(self, reason: str, body: bytes) -> None:
        """Mark it dead, because this item cannot be read; `body` is the SHA-256 of the whole body."""
        self.state, self.reason = State.DEAD, reason
        self.dedup_key, self.fingerprint = f"{body.hex()}-{self.item}", body

    def keep_body_alone(self, reason: str) -> None:
        """Drop all values read from the body, because the database refuses one; the arrival is then dead."""
        self.item, self.others = None, ()
        self.give_up(_in_ascii(reason))
        self.event_type, self.entity, self.occurred_at = "", None, None
        self.headers, self.secret, self.conflict = {}, None, False

    def keep_item_alone(self, reason: str) -> None:
        """Drop what this item of a bundle says, because the database refuses that; the item is then dead."""
        self.give_up_item(_in_ascii(reason), hashlib.sha256(self.verified).digest())
        self.event_type, self.entity, self.occurred_at, self.conflict = "", None, None, False

    def ignore(self, reason: str) -> None:
        """Mark it ignored."""
        self.state, self.reason = State.IGNORED, reason

    @property
    def unique_key(self) -> tuple[str, str]:
        """Its row in `dedup_keys`: the source, and the dedup key with its lead."""
        return self.source, self.lead + self.dedup_key

    @property
    def verified(self) -> bytes:
        """The verified content: of an encrypted or compressed body, the decoded bytes."""
        return self.body if self.plain is None else self.plain

    def each(self) -> Iterator[Arrival]:
        """It, and the other items of its body."""
        yield self
        yield from self.others


def _in_ascii(reason: str) -> str:
    """The reason as every database takes it: it may quote what was refused."""
    return reason.encode("ascii", "backslashreplace").decode()


class Accepted(NamedTuple):
    """The answer to the sender: accepted or duplicate, with the id of the stored delivery.

    For a body that tells of several events: accepted if any of them is new, and the id of the first.
    """

    status: Literal["accepted", "duplicate"]
    delivery_id: int
    #: The answers to all items of such a body, in their order.
    items: Sequence[Accepted] = ()
