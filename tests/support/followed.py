"""A follower with a dead change, and a change that waits behind it, written directly into the tables."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import insert

from receiver.database.database import Database
from receiver.following.dead_changes import DEAD_CHANGES, DeadState
from receiver.following.followers import FOLLOWERS


def add(database: Database, name: str = "erp", *, reason: str = "no such SKU", external_id: str = "A1") -> None:
    """Insert a dead change with the number 1 and a waiting change with the number 2."""
    now = datetime.now(UTC)
    follower = {"name": name, "target": "http://erp.example/feed", "seq": 2, "mark": "m", "seen_at": now}
    row = {"follower": name, "table": "products", "source": "sigma", "external_id": external_id, "since": now}
    dead = {"seq": 1, "state": DeadState.DEAD.value, "status": 422, "reason": reason, "attempts": 5}
    waiting = {"seq": 2, "state": DeadState.WAITING.value, "status": None, "reason": None, "attempts": 0}
    with database.write() as connection:
        connection.execute(insert(FOLLOWERS).values(**follower, began_at=now))
        connection.execute(insert(DEAD_CHANGES), [{**row, **dead}, {**row, **waiting}])
