"""Indexed PIM's log of deliveries (Indexed docs, section "Detailed logs", and "Setup flow", step 4)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from simulator.systems.base import Attempt, iso_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    number: int
    app: str
    created_at: datetime
    event: str
    webhook: str
    #: The status of the answer; 0 without an answer (Indexed docs, section "Operational limitation to know").
    status: int
    #: Milliseconds from the request to the answer.
    response_time: int
    request_payload: str
    response_payload: str
    revision: dict[str, Any] | None

    def shown(self) -> dict[str, Any]:
        return {
            "id": self.number,
            "created_at": iso_seconds(self.created_at),
            "event": self.event,
            "webhook_external_id": self.webhook,
            "status": self.status,
            "response_time": self.response_time,
            "request_payload": self.request_payload,
            "response_payload": self.response_payload,
            "revision": self.revision,
        }


def entry(attempt: Attempt, *, number: int, at: datetime, app: str) -> Entry:
    return Entry(
        number=number,
        app=app,
        created_at=at,
        event=attempt.message.event_type,
        webhook=attempt.message.subscription,
        status=attempt.status or 0,
        response_time=round(attempt.seconds * 1000),
        request_payload=attempt.message.body.decode(),
        response_payload=attempt.answer.decode(errors="replace"),
        revision=attempt.message.extras.get("revision"),
    )
