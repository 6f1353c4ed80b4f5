"""Arrivals: verified webhooks on their way into the inbox, and what their senders are told about them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from receiver.envelope import Envelope, unread_identity
from receiver.inbox.tables import State


@dataclass(slots=True, kw_only=True)
class Arrival:
    """A verified webhook on its way into the inbox."""

    source: str
    body: bytes
    #: What an encrypted or compressed body holds; None if the body is plain.
    plain: bytes | None
    headers: dict[str, str]
    received_at: datetime
    secret: int | None
    #: The id of its delivery, drawn when it is accepted; 0 until then.
    id: int = 0
    dedup_key: str = ""
    fingerprint: bytes = b""
    #: Its dedup key was used for another body.
    conflict: bool = False
    #: pending, ignored (no handler takes its event type) or dead (it cannot be read).
    state: State = State.PENDING
    reason: str | None = None
    event_type: str = ""
    entity: tuple[str, str] | None = None
    occurred_at: datetime | None = None

    def know(self, envelope: Envelope) -> None:
        """Fill in what the body says."""
        self.event_type, self.entity, self.occurred_at = envelope.event_type, envelope.entity, envelope.occurred_at
        self.dedup_key, self.fingerprint = envelope.identity(self.verified)

    def give_up(self, reason: str) -> None:
        """Mark it dead, because its body cannot be read: it is kept all the same, and can be replayed after a fix."""
        self.state, self.reason = State.DEAD, reason
        self.dedup_key, self.fingerprint = unread_identity(self.verified)

    def keep_body_alone(self, reason: str) -> None:
        """Drop whatever was read, because the database refuses some of it. The arrival is dead, and can be replayed."""
        self.give_up(reason.encode("ascii", "backslashreplace").decode())
        self.event_type, self.entity, self.occurred_at = "", None, None
        self.headers, self.secret, self.conflict = {}, None, False

    def ignore(self, reason: str) -> None:
        """Mark it ignored."""
        self.state, self.reason = State.IGNORED, reason

    @property
    def verified(self) -> bytes:
        """The bytes that were verified and read."""
        return self.body if self.plain is None else self.plain


class Accepted(NamedTuple):
    """The answer to the sender: accepted or duplicate, and under which id it is kept."""

    status: Literal["accepted", "duplicate"]
    delivery_id: int
