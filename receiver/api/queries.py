"""How what was looked up is shown in JSON."""

from __future__ import annotations

from base64 import b64encode
from decimal import Decimal
from typing import Any

from sqlalchemy import RowMapping

from receiver.inbox.tables import State
from receiver.search.deliveries import KeptDelivery


def show_whole_delivery(found: KeptDelivery) -> dict[str, Any]:
    """One delivery with its body, headers and failed attempts."""
    row = found.row
    body, encoding = _readable(row["body"])
    return show_delivery(row) | {
        "headers": row["headers"] or {},
        "body": body,
        "body_encoding": encoding,
        "plain": _readable(row["plain"])[0],
        "attempts": [
            {"number": each["number"], "ended_at": each["ended_at"], "worker": each["worker"], "reason": each["reason"]}
            for each in found.attempts
        ],
    }


def show_delivery(row: RowMapping) -> dict[str, Any]:
    """A delivery as the API lists it."""
    entity = f"{row['entity_kind']}:{row['entity_id']}" if row["entity_kind"] is not None else None
    shown = ("source", "event_type", "occurred_at", "received_at", "state", "outcome", "reason", "ended_at")
    return {
        "id": str(row["id"]),
        **{name: row[name] for name in shown},
        "entity": entity,
        "attempts_made": row["attempts"],
        "next_attempt_at": row["due_at"] if row["state"] == State.PENDING else None,
        "duplicates": row["duplicates"],
        "conflict": row["conflict"],
        "dedup_key": row["dedup_key"],
        "secret": row["secret"],
    }


def show_row(row: RowMapping) -> dict[str, Any]:
    """A mirror row as the API shows it: decimals as text with all their digits."""
    return {name: format(value, "f") if isinstance(value, Decimal) else value for name, value in row.items()}


def _readable(content: bytes | None) -> tuple[str | None, str | None]:
    if content is None:
        return None, None
    try:
        return content.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return b64encode(content).decode(), "base64"
