"""Helpers for tests of the ready dialects: the reason why a body is unreadable, and the rows that a body leaves."""

from __future__ import annotations

import re
from typing import Any

import pytest
from collecting import json_body, rows_after, writes_of

from receiver import Dialect, Unreadable

#: The headers that a signature covers.
SIGNED = {"webhook-id": "msg_1", "webhook-timestamp": "1772625600"}


def kept(dialect: Dialect, body: Any) -> bytes:
    """Return the body with the signed headers, as the dialect's envelope function gets it."""
    return dialect.as_kept(json_body(body), SIGNED)


def says_why(dialect: Dialect, body: Any, reason: str) -> None:
    """Assert that this body, or its first item, is dead, and that the reason contains this text."""
    with pytest.raises(Unreadable, match=re.escape(reason)):
        writes_of(dialect, kept(dialect, body))


def rows_of(dialect: Dialect, body: Any) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the rows that this body leaves, by table and external id."""
    return rows_after(writes_of(dialect, kept(dialect, body)))
