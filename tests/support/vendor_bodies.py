"""What the tests of the ready dialects share: why a body cannot be read, and the rows that one leaves."""

from __future__ import annotations

import re
from typing import Any

import pytest
from collecting import json_body, rows_after, writes_of

from receiver import Dialect, Unreadable

#: The headers that a signature covers, as a test sends them.
SIGNED = {"webhook-id": "msg_1", "webhook-timestamp": "1772625600"}


def kept(dialect: Dialect, body: Any) -> bytes:
    """The body as the envelope gets it, with the headers that are signed."""
    return dialect.as_kept(json_body(body), SIGNED)


def says_why(dialect: Dialect, body: Any, reason: str) -> None:
    """Assert that this body, or its first item, is dead with a reason that has this text."""
    with pytest.raises(Unreadable, match=re.escape(reason)):
        writes_of(dialect, kept(dialect, body))


def rows_of(dialect: Dialect, body: Any) -> dict[tuple[str, str], dict[str, Any]]:
    """The rows by table and external id that this body leaves."""
    return rows_after(writes_of(dialect, kept(dialect, body)))
