"""Arrivals: verified webhooks on their way into the inbox, and the answers to their senders."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from receiver.envelope import ARRIVAL, Envelope, content_of, unread_identity
from receiver.inbox.tables import State


class Arrival(Struct, kw_only=True, eq=False):
    """A verified webhook on its way into the inbox; a struct, which is made in a fifth of the time of a dataclass."""

    source: str
    body: bytes
    #: The content of an encrypted or compressed body; None if the body is plain.
    plain: bytes | None
    headers: dict[str, str]
    received_at: datetime
    secret: int | None
    #: The mark of the secret that verified it, by which its uses are counted; empty if unknown.
    mark: str = ""
    #: The id of its delivery, drawn when it is accepted; 0 until then.
    id: int = 0
    dedup_key: str = ""
    fingerprint: bytes = b""
    #: The lead of its dedup key, with which the key begins in `dedup_keys` only.
    lead: str = ""
    #: Whether its dedup key was used for another body.
    conflict: bool = False
    #: pending, ignored (no handler takes its event type) or dead (it cannot be read).
    state: State = State.PENDING
    reason: str | None = None
    event_type: str = ""
    entity: tuple[str, str] | None = None
    occurred_at: datetime | None = None
    #: The position of the event in its bundle, from 0; None for the only event of a body.
    item: int | None = None
    #: The id under which the body is kept; 0 if that is the delivery's id.
    body_id: int = 0
    #: For the first item of a bundle, the arrivals of the other items in order; otherwise empty.
    others: Sequence[Arrival] = ()
    #: Its row in the statement that inserts it, once made ready; None if it changed since.
    row: Any = None

    def know(self, envelope: Envelope, *, from_headers: bool = False) -> None:
        """Set event type, dedup key, entity and time from the envelope.

        If the envelope was read `from_headers`, too, its time may be that of the attempt, and does not lead the key.
        """
        self._take(envelope)
        self.dedup_key, self.fingerprint = envelope.identity(self.body if self.plain is None else self.plain)
        self.lead = "" if from_headers else envelope.lead()

    def know_item(self, envelope: Envelope, body: bytes) -> None:
        """Set the same values from the envelope of an item; `body` is the SHA-256 of the whole body."""
        assert self.item is not None
        self._take(envelope)
        self.dedup_key, self.fingerprint = envelope.identity_of_item(body, self.item)

    def _take(self, envelope: Envelope) -> None:
        self.event_type, self.entity, self.occurred_at = envelope.event_type, envelope.entity, envelope.occurred_at
        if self.occurred_at is ARRIVAL:
            # As `Envelope.dated` returns it; written out, since it runs for each webhook.
            self.occurred_at = self.received_at

    def give_up(self, reason: str) -> None:
        """Mark the arrival dead, because its body cannot be read. It is stored, and can be replayed after a fix.

        All values read from the body are dropped.
        """
        self.state, self.reason = State.DEAD, reason
        self.dedup_key, self.fingerprint = unread_identity(self.verified)
        self.lead, self.row = "", None
        self.item, self.others = None, ()
        self.event_type, self.entity, self.occurred_at = "", None, None

    def give_up_item(self, reason: str, body: bytes) -> None:
        """Mark this item dead, because it cannot be read; `body` is the SHA-256 of the whole body."""
        self.state, self.reason, self.row = State.DEAD, reason, None
        self.dedup_key, self.fingerprint = f"{body.hex()}-{self.item}", body

    def keep_body_alone(self, reason: str) -> None:
        """Give up, and drop the headers, too, because the database refuses one of the values."""
        self.give_up(_in_ascii(reason))
        self.headers, self.secret, self.conflict = {}, None, False

    def keep_item_alone(self, reason: str) -> None:
        """Drop all values read from this item, because the database refuses one of them, and mark the item dead."""
        self.give_up_item(_in_ascii(reason), hashlib.sha256(self.verified).digest())
        self.event_type, self.entity, self.occurred_at, self.conflict = "", None, None, False

    def ignore(self, reason: str) -> None:
        """Mark the arrival ignored."""
        self.state, self.reason = State.IGNORED, reason

    @property
    def unhandled(self) -> str | None:
        """The event type, if the arrival is ignored because no handler takes it; None otherwise."""
        return self.event_type or None if self.state is State.IGNORED else None

    def drop_lead(self) -> None:
        """Take the key without its lead, as an earlier release wrote it."""
        self.lead, self.row = "", None

    @property
    def unhashed_key(self) -> str | None:
        """The dedup key with a long fingerprint as it is, as an earlier release wrote it; None if it has none."""
        content = content_of(self.fingerprint)
        if not self.dedup_key.endswith(content):
            # The sender's own id is the key.
            return None
        return self.dedup_key.removesuffix(content) + self.fingerprint.hex()

    def take_older_key(self, key: str) -> None:
        """Take the key under which an earlier release stored this change."""
        self.dedup_key, self.row = key, None

    @property
    def unique_key(self) -> tuple[str, str]:
        """Its row in `dedup_keys`: the source, and the dedup key with its lead."""
        return self.source, self.lead + self.dedup_key

    @property
    def verified(self) -> bytes:
        """The verified content: the body, or its decrypted or decompressed bytes."""
        return self.body if self.plain is None else self.plain

    def each(self) -> Iterator[Arrival]:
        """Yield this arrival, and then the other items of its body."""
        yield self
        yield from self.others


def _in_ascii(reason: str) -> str:
    """Reduce the reason to ASCII, which every database takes, because it may quote the refused value."""
    return reason.encode("ascii", "backslashreplace").decode()


class Accepted(Struct, frozen=True):
    """The answer to the sender: accepted or duplicate, with the id of the stored delivery.

    For a bundle: accepted if any item is new, and the id of the first item's delivery.
    """

    status: Literal["accepted", "duplicate"]
    delivery_id: int
    #: The answers to all items of a bundle, in order.
    items: Sequence[Accepted] = ()
