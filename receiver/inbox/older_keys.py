"""Older keys: dedup keys that an earlier release stored without a lead, and that still identify duplicates.

Older keys are not rewritten. Only changes that occurred before the upgrade are looked up by them (docs/decisions/0042).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select

from receiver.database.database import Database
from receiver.database.identity import older_keys_until
from receiver.inbox.arrival import Arrival
from receiver.inbox.tables import DEDUP_KEYS, dedup_keys_in


class OlderKeys:
    """Recognises arrivals whose changes occurred before the upgrade by their older keys."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._is_known = False
        self._until: datetime | None = None

    def recognise(self, arrivals: Sequence[Arrival]) -> None:
        """Drop the lead of each arrival whose key is stored without it. Raises SQLAlchemy's errors."""
        if not self._is_known:
            with self._database.read() as connection:
                self._until = older_keys_until(connection)
            self._is_known = True
        if self._until is None:
            return
        until = self._until
        old = [each for each in arrivals if each.lead and each.occurred_at and each.occurred_at <= until]
        if old:
            stored = self._stored(old)
            for each in old:
                if (each.source, each.dedup_key) in stored:
                    each.drop_lead()

    def _stored(self, arrivals: Sequence[Arrival]) -> set[tuple[str, str]]:
        """Select the keys of these arrivals that are stored without a lead."""
        stored: set[tuple[str, str]] = set()
        with self._database.read() as connection:
            for condition in dedup_keys_in((each.source, each.dedup_key) for each in arrivals):
                found = connection.execute(select(DEDUP_KEYS.c.source, DEDUP_KEYS.c.dedup_key).where(condition))
                stored.update((row.source, row.dedup_key) for row in found)
        return stored
