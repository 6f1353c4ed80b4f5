"""Arrivals: verified webhooks on their way into the inbox, and the answers to their senders."""

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
    #: The content of an encrypted or compressed body; None if the body is plain.
    plain: bytes | None
    headers: dict[str, str]
    received_at: datetime
    secret: int | None
    #: The id of its delivery, drawn when it is accepted; 0 until then.
    id: int = 0
    dedup_key: str = ""
    fingerprint: bytes = b""
    #: Whether its dedup key was used for another body.
    conflict: bool = False
    #: pending, ignored (no handler takes its event type) or dead (it cannot be read).
    state: State = State.PENDING
    reason: str | None = None
    event_type: str = ""
    entity: tuple[str, str] | None = None
    occurred_at: datetime | None = None

    def know(self, envelope: Envelope) -> None:
        """Take over event type, dedup key, entity and time from the envelope."""
        self.event_type, self.entity, self.occurred_at = envelope.event_type, envelope.entity, envelope.occurred_at
        self.dedup_key, self.fingerprint = envelope.identity(self.verified)

    def give_up(self, reason: str) -> None:
        """Mark it dead, because its body cannot be read. It is stored all the same, and can be replayed after a fix."""
        self.state, self.reason = State.DEAD, reason
        self.dedup_key, self.fingerprint = unread_identity(self.verified)

    def keep_body_alone(self, reason: str) -> None:
        """Drop all values read from the body, because the database refuses one; the arrival is then dead."""
        self.give_up(reason.encode("ascii", "backslashreplace").decode())
        self.event_type, self.entity, self.occurred_at = "", None, None
        self.headers, self.secret, self.conflict = {}, None, False

    def ignore(self, reason: str) -> None:
        """Mark it ignored."""
        self.state, self.reason = State.IGNORED, reason

    @property
    def verified(self) -> bytes:
        """The verified content: of an encrypted or compressed body, the decoded bytes."""
        return self.body if self.plain is None else self.plain


class Accepted(NamedTuple):
    """The answer to the sender: accepted or duplicate, with the id of the stored delivery."""

    status: Literal["accepted", "duplicate"]
    delivery_id: int
