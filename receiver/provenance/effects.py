"""Effects: what one delivery changed in the mirror."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Select, bindparam, select

from receiver.database.columns import raw_columns
from receiver.mirror.changes import CHANGES


def changes_of(delivery_id: int, *, behind: int = 0) -> Select[Any]:
    """Selects the changes that the delivery made behind this number, in commit order, to be passed on."""
    wanted = select(*raw_columns(CHANGES)).where(
        CHANGES.c.delivery_id == bindparam("delivery", delivery_id, BigInteger), CHANGES.c.seq > behind
    )
    # Not the plain column, in whose order SQLite would rather go through the whole feed.
    return wanted.order_by(CHANGES.c.seq + 0)
