"""Members of bodies, read strictly. Each function raises `Unreadable` for a member that is not as documented."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from handlers.values import as_moment
from receiver import Envelope, Unreadable

#: The event type of the test events that people send from the console.
TEST_EVENT = "hookmirror.test"


def member(document: Any, path: str) -> Any:
    """Return the value at a path of members, such as "data.object"; None if one of them is missing."""
    for name in path.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return document


def moment_at(body: Any, path: str) -> datetime:
    """Read an ISO 8601 time with its offset at this path. Raises `Unreadable`."""
    try:
        return as_moment(member(body, path))
    except ValueError as error:
        raise Unreadable(f"`{path}` is not the time of a change: {error}.") from None


def utc_moment_at(body: Any, path: str) -> datetime:
    """Read an ISO 8601 time at this path, which the sender writes in UTC without an offset. Raises `Unreadable`."""
    value = member(body, path)
    try:
        return as_moment(f"{value}Z" if isinstance(value, str) and len(value) == len("2026-06-01T12:00:00") else value)
    except ValueError as error:
        raise Unreadable(f"`{path}` is not the time of a change: {error}.") from None


def unix_moment_at(body: Any, path: str) -> datetime:
    """Read a time in whole seconds since 1970 at this path. Raises `Unreadable`."""
    value = member(body, path)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Unreadable(f"`{path}` is not the time of a change in whole seconds since 1970.")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        raise Unreadable(f"`{path}` is not a time in the years 1 to 9999.") from None


def text_at(body: Any, path: str) -> str:
    """Return the text at this path, which must not be empty. Raises `Unreadable`."""
    value = member(body, path)
    if not isinstance(value, str) or not value:
        raise Unreadable(f"`{path}` is missing or not text.")
    return value


def number_or_text(entity_id: str) -> int | str:
    """Return an id as senders write it: digits as a number, anything else as text."""
    return int(entity_id) if entity_id.isascii() and entity_id.isdecimal() and entity_id[0] != "0" else entity_id


def list_at(body: Any, path: str) -> list[Any]:
    """Return the list at this path. Raises `Unreadable`."""
    value = member(body, path)
    if not isinstance(value, list):
        raise Unreadable(f"`{path}` is missing or not a list.")
    return value


def in_seconds(moment: datetime) -> int:
    """Write a time in whole seconds since 1970."""
    return int(moment.timestamp())


def write_test_event(at: datetime) -> dict[str, Any]:
    """Write a test event for a sender whose bodies do not name their event, so that it has a form of its own."""
    return {"event": TEST_EVENT, "at": at}


def read_test_event(body: dict[str, Any]) -> Envelope | None:
    """Read a body of `write_test_event`; None for any other body. Raises `Unreadable`."""
    if body.keys() != {"event", "at"} or body["event"] != TEST_EVENT:
        return None
    return Envelope(event_type=TEST_EVENT, entity=None, occurred_at=moment_at(body, "at"), data=None)


def unix_moment_or_none(value: Any) -> datetime | None:
    """Read a time in whole seconds since 1970; None if it is not valid."""
    try:
        return unix_moment_at({"it": value}, "it")
    except Unreadable:
        return None
