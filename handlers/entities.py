"""The entity of an event, which an event that no handler takes need not name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from handlers.values import id_of
from receiver import Dialect, Unreadable


def entity_of(
    dialect: Dialect, event_type: str, kind: str, value: Any, members: Iterable[str], *, what: str
) -> tuple[str, str] | None:
    """Return the kind, and the first of these members that is present and not null, as an id.

    An event that the vendor adds later may name its entity in another way. It is ignored as long as no handler takes
    it, so the result is None then. For other events without an id, raises `Unreadable`.
    """
    try:
        return kind, id_of(value, members, what=what)
    except Unreadable:
        if dialect.handler_for(event_type) is None:
            return None
        raise
